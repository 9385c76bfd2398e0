-- Starts a bulk action: what it concerns is frozen here, and what ends (or is created) after `cutoff` is not touched.
insert into carafe.bulk_actions (id, action, filter, cutoff, rate, actor, via, reason, matched, matched_estimated)
values (:id, :action, cast(:filter as jsonb), :cutoff, :rate, :actor, :via, :reason, :matched, :estimated)
returning *
