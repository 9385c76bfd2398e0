-- Changes due jobs to queued, oldest first, in a bounded batch: those that became due within the last `within` seconds, and
-- not before `after`. Concurrent runs never take the same row. Jobs of a paused queue or kind come back without `hinted_at`:
-- they get no hint. The batch is found along an index, in the index's order, and changed by the ids found (see
-- docs/plans.md).
with due as (
    select id from carafe.jobs
    where state in ('scheduled', 'retrying') and due_at <= now()
        and due_at >= greatest(:after::timestamptz, now() - :within::float8 * interval '1 second')
    order by due_at limit :limit for update skip locked
)
update carafe.jobs j set state = 'queued', hinted_at = clock_timestamp(), started_at = null, deferrals = 0
where j.id = any(array(select id from due))
returning j.id, j.kind, j.state, j.attempt, j.max_attempts, cast(j.args as text) as args, j.version, null as result, null as error,
    case when {unpaused} then j.hinted_at end as hinted_at, j.due_at
