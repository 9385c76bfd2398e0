-- Takes everything from a worker that is lost. Jobs begin in the order of their claims, so the first rows, as many as the
-- worker had slots, are those that may have been running: each is a suspect from now on and runs alone. Which of several was
-- to blame nobody knows, so that none is charged; one that was alone spends an attempt, and is dead when none was left. The
-- others were never begun and spend nothing; nor does a suspect, which ran in a process of its own. Such free rescues are
-- counted as releases, and capped: then they count. One that somebody wants cancelled ends so.
-- The fence stays; the next claim raises it, and until then no row is running, so a late write of the old owner changes
-- nothing. Those of a paused queue or kind come back without `hinted_at`: they get no hint.
-- Rows are found by the ids of `judged`, and told apart in hash tables, as in finish.
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
    returning j.id, j.kind, j.attempt, j.max_attempts, j.fence, j.started_at, j.args,
        j.id in (select id from judged where charged) as charged,
        case when {unpaused} then j.hinted_at end as hinted_at
),
ended as (
    delete from carafe.jobs j
    where j.id = any(array(select id from judged)) and j.worker = :worker and j.state || '' = 'running'
        and (j.cancel_requested_at is not null
            or (j.attempt + 1 >= j.max_attempts and j.id in (select id from judged where charged)))
    returning j.*, j.attempt + case when j.id in (select id from judged where charged) then 1 else 0 end as spent,
        j.id in (select id from judged where charged) as charged,
        case when j.cancel_requested_at is null then 'dead' else 'cancelled' end as outcome
),
moved as (
    insert into carafe.jobs_ended ({carried}, state, attempt, trace, cancel_requested_at, ended_at, error_class, error, error_fingerprint)
    select {carried}, outcome, spent, trace, cancel_requested_at, now(), 'WorkerLost', :error, :fingerprint
    from ended
),
lost as (
    select id, kind, attempt, max_attempts, fence, started_at, args, hinted_at, 'queued' as state, charged from requeued
    union all
    select id, kind, spent, max_attempts, fence, started_at, args, null, outcome, charged from ended
),
recorded as (
    insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, worker, worker_name, started_at)
    select id, kind, attempt, fence, 'worker lost', 'WorkerLost', :error, :worker, :worker_name, started_at
    from lost where charged
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, outcome, 0, 0, count(*), 0, 0 from ended group by kind, outcome
),
marked as (
    update carafe.workers set state = 'lost', stopped_at = now() where id = :worker
)
select id, kind, state, attempt, max_attempts, cast(args as text) as args, hinted_at, null as result, :error as error
from lost
