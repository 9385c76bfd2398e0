-- Changes scheduled and retrying jobs to queued at once. Jobs of a paused queue or kind come back without `hinted_at`. Rows
-- are found as in claim.sql.
update carafe.jobs j set state = 'queued', due_at = now(), hinted_at = clock_timestamp(), started_at = null, deferrals = 0
where id = any(:ids::uuid[]) and state || '' in ('scheduled', 'retrying')
returning {live},
    case when {unpaused} then hinted_at end as hinted_at
