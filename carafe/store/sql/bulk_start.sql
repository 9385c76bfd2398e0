-- Starts a bulk action. Its filter and its cutoff are fixed here: jobs that end (or are created) after `cutoff` are not
-- touched.
insert into carafe.bulk_actions (id, action, filter, cutoff, rate, actor, via, reason, matched, matched_estimated)
values (:id, :action, cast(:filter as jsonb), :cutoff, :rate, :actor, :via, :reason, :matched, :estimated)
returning *
