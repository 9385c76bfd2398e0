-- Writes down what a batch has done, in the batch's own transaction; the action ends when nothing is left. The next batch may
-- come when the rate has been kept; up to a second that passed unused may be caught up with.
update carafe.bulk_actions
set cursor = cast(:cursor as jsonb), done = done + :done::bigint, skipped = skipped + :skipped::bigint,
    failed = failed + :failed::bigint,
    last_error = coalesce(cast(:error as text), last_error), updated_at = now(),
    next_at = case
        when rate is null then clock_timestamp()
        else greatest(next_at, clock_timestamp() - interval '1 second') + (:done::bigint + :failed::bigint) / rate * interval '1 second'
    end,
    state = case when :finished::boolean then 'done' else state end,
    ended_at = case when :finished::boolean then clock_timestamp() end
where id = :id
returning *
