-- Spends the attempt of running jobs, each only under its own fence: the failure is recorded, and the job retries after
-- its delay, or is dead when none is left or the failure is final. The state is compared as in finish.
with given as (
    select * from unnest(:ids::uuid[], :fences::bigint[], :causes::text[], :error_classes::text[], :errors::text[],
        :tracebacks::text[], :fingerprints::text[], :delays::float8[], :finals::boolean[], :traces::text[])
        as g(id, fence, cause, error_class, error, traceback, fingerprint, delay, final, traced)
),
retrying as (
    update carafe.jobs j
    set state = 'retrying', attempt = j.attempt + 1, worker = null, deadline_at = null,
        due_at = now() + g.delay * interval '1 second', trace = coalesce(g.traced, j.trace)
    from given g
    where j.id = g.id and j.fence = g.fence and j.state || '' = 'running'
        and not g.final and j.attempt + 1 < j.max_attempts and j.cancel_requested_at is null
    returning j.id, j.kind, j.attempt, j.max_attempts, j.fence, j.started_at, j.args, g.cause, g.error_class, g.error,
        g.traceback
),
ended as (
    delete from carafe.jobs j
    using given g
    where j.id = g.id and j.fence = g.fence and j.state || '' = 'running'
        and (g.final or j.attempt + 1 >= j.max_attempts or j.cancel_requested_at is not null)
    returning j.*, g.cause, g.error_class, g.error, g.traceback, g.fingerprint, g.traced,
        case when g.final or j.cancel_requested_at is null then 'dead' else 'cancelled' end as outcome
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error_class, error, error_fingerprint)
    select id, kind, queue, outcome, args, secrets, version, attempt + 1, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, coalesce(traced, trace), created_by, progress,
        progress_note, cancel_requested_at, now(), error_class, error, fingerprint
    from ended
),
failed as (
    select id, kind, attempt, max_attempts, fence, started_at, args, cause, error_class, error, traceback,
        'retrying' as state from retrying
    union all
    select id, kind, attempt + 1, max_attempts, fence, started_at, args, cause, error_class, error, traceback,
        outcome from ended
),
recorded as (
    insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, traceback, worker, worker_name,
        started_at)
    select id, kind, attempt, fence, cause, error_class, error, traceback, :worker, :worker_name, started_at from failed
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, state, 0, width_bucket(run, :bounds::float8[]), count(*), 0, sum(run)
    from (select kind, state, cast(extract(epoch from now() - started_at) as float8) as run from failed) as times
    group by 1, 2, 3, 4
)
select id, kind, state, attempt, max_attempts, cast(args as text) as args, null as result, error from failed
