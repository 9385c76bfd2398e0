-- Makes scheduled and retrying jobs queued at once.
update carafe.jobs set state = 'queued', due_at = now(), hinted_at = clock_timestamp(), started_at = null, deferrals = 0
where id = any(:ids::uuid[]) and state in ('scheduled', 'retrying')
returning id, kind, state, attempt, max_attempts, cast(args as text) as args, hinted_at, null as result, null as error
