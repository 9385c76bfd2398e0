-- Takes everything from a worker that is lost: each of its running jobs spends an attempt and is queued again, or is dead
-- when none is left. The fence stays; the next claim raises it, and until then no row is running, so a late write of the
-- old owner changes nothing. Those of a paused queue come back without `hinted_at`: they get no hint.
with requeued as (
    update carafe.jobs
    set state = 'queued', attempt = attempt + 1, worker = null, deadline_at = null, hinted_at = clock_timestamp(),
        due_at = now()
    where worker = :worker and state = 'running' and attempt + 1 < max_attempts and cancel_requested_at is null
    returning id, kind, attempt, max_attempts, fence, started_at, args,
        case when queue <> all (array(select name from carafe.queues where paused_at is not null)) then hinted_at end as hinted_at
),
ended as (
    delete from carafe.jobs
    where worker = :worker and state = 'running' and (attempt + 1 >= max_attempts or cancel_requested_at is not null)
    returning *, case when cancel_requested_at is null then 'dead' else 'cancelled' end as outcome
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error_class, error, error_fingerprint)
    select id, kind, queue, outcome, args, secrets, version, attempt + 1, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, now(), 'WorkerLost', :error, :fingerprint
    from ended
),
lost as (
    select id, kind, attempt, max_attempts, fence, started_at, args, hinted_at, 'queued' as state from requeued
    union all
    select id, kind, attempt + 1, max_attempts, fence, started_at, args, null, outcome from ended
),
recorded as (
    insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, worker, worker_name, started_at)
    select id, kind, attempt, fence, 'worker lost', 'WorkerLost', :error, :worker, :worker_name, started_at from lost
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
