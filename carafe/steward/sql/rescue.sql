-- Takes all jobs from a lost worker. Jobs begin in the order of their claims. So the jobs that may have been running are the
-- first ones, as many as the worker had slots: each becomes a suspect, which from then on runs alone. If there are several,
-- nobody knows which one was to blame, so none of them spends an attempt. If there is only one, it spends an attempt, and is
-- dead if no attempt is left. The other jobs were never begun and spend nothing. Neither does a job that was a suspect
-- already, since it ran in a process of its own. Rescues that spend nothing are counted as releases, and their number is
-- limited: further ones spend an attempt. A job that somebody wants to cancel ends as cancelled.
-- The attempt of a job that may have been running is recorded as ended by the worker's loss: 'worker lost' if it is spent,
-- else 'interrupted'.
-- The fence stays; the next claim raises it. Until then the row is not running, so a late write of the former owner changes
-- nothing. Jobs of a paused queue or kind come back without `hinted_at`: they get no hint.
-- Rows are found by the ids of `judged`, and matched in hash tables, as in finish.sql.
with ranked as (
    select id, releases, not suspect and row_number() over (order by started_at, id)
        <= coalesce((select concurrency from carafe.workers w where w.id = :worker), 5) as begun
    from carafe.jobs where worker = :worker and state = 'running'
),
judged as (
    select id, begun, (begun and count(*) filter (where begun) over () = 1) or releases >= :free_releases::integer as charged
    from ranked
),
requeued as (
    update carafe.jobs j
    set state = 'queued', attempt = j.attempt + case when j.id in (select id from judged where charged) then 1 else 0 end, worker = null, deadline_at = null,
        hinted_at = clock_timestamp(), suspect = j.suspect or j.id in (select id from judged where begun or charged),
        releases = j.releases + case when j.id in (select id from judged where charged) then 0 else 1 end
    where j.id = any(array(select id from judged)) and j.worker = :worker and j.state || '' = 'running'
        and j.cancel_requested_at is null
        and (j.attempt + 1 < j.max_attempts or j.id not in (select id from judged where charged))
    returning j.id, j.kind, j.attempt, j.max_attempts, j.fence, j.started_at, j.args, j.version,
        j.id in (select id from judged where charged) as charged, j.suspect as recorded,
        case when {unpaused} then j.hinted_at end as hinted_at
),
ended as (
    delete from carafe.jobs j
    where j.id = any(array(select id from judged)) and j.worker = :worker and j.state || '' = 'running'
        and (j.cancel_requested_at is not null
            or (j.attempt + 1 >= j.max_attempts and j.id in (select id from judged where charged)))
    returning j.*, j.attempt + case when j.id in (select id from judged where charged) then 1 else 0 end as spent,
        j.id in (select id from judged where charged) as charged,
        j.suspect or j.id in (select id from judged where begun or charged) as recorded,
        case when j.cancel_requested_at is null then 'dead' else 'cancelled' end as outcome
),
moved as (
    insert into carafe.jobs_ended ({carried}, state, attempt, trace, cancel_requested_at, ended_at, error_class, error, error_fingerprint)
    select {carried}, outcome, spent, trace, cancel_requested_at, now(), 'WorkerLost', :error, :fingerprint
    from ended
),
lost as (
    select id, kind, attempt, max_attempts, fence, started_at, args, version, hinted_at, 'queued' as state, charged,
        recorded
    from requeued
    union all
    select id, kind, spent, max_attempts, fence, started_at, args, version, null, outcome, charged, recorded from ended
),
recorded as (
    insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, worker, worker_name, started_at)
    select id, kind, attempt + case when charged then 0 else 1 end, fence,
        case when charged then 'worker lost' else 'interrupted' end, 'WorkerLost', :error, :worker, :worker_name, started_at
    from lost where recorded
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, outcome, 0, 0, count(*), 0, 0 from ended group by kind, outcome
),
marked as (
    update carafe.workers set state = 'lost', stopped_at = now() where id = :worker
)
select id, kind, state, attempt, max_attempts, cast(args as text) as args, version, hinted_at, null as result,
    :error as error
from lost
