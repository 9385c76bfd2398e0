-- Records what a batch has done, in the batch's own transaction. The action ends when no jobs are left. The next batch may
-- run when the action's rate permits it; time that was not used is made up for, but at most a second of it. At the end, the
-- skipped jobs are those that were counted at the start and neither done nor failed: a walk by filter never sees a job that
-- no longer matches.
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
