-- Writes down what a batch has done, in the batch's own transaction; the action ends when nothing is left. The next batch may
-- come when the rate has been kept; up to a second that passed unused may be caught up with. At the end what was counted at
-- the start and was neither done nor failed has been skipped: a walk by filter never sees a job that matches no longer.
update carafe.bulk_actions
set cursor = cast(:cursor as jsonb), done = done + :done::bigint,
    skipped = greatest(
        skipped + :skipped::bigint,
        case when :finished::boolean and not matched_estimated
            then matched - (done + :done::bigint) - (failed + :failed::bigint) end
    ),
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
