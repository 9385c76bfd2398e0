-- Spends the attempt of running jobs, each only under its own fence: the failure is recorded, and the job retries after
-- its delay, or is dead when none is left or the failure is final. Rows are found and joined as in finish; `told` holds what an
-- update needs of what was given, by id and fence.
with given as materialized (
    select distinct on (id, fence) * from unnest(:ids::uuid[], :fences::bigint[], :causes::text[], :error_classes::text[], :errors::text[],
        :tracebacks::text[], :fingerprints::text[], :delays::float8[], :finals::boolean[], :traces::text[])
        as g(id, fence, cause, error_class, error, traceback, fingerprint, delay, final, traced)
),
told as materialized (
    select jsonb_object_agg(id || ' ' || fence, jsonb_build_array(delay, traced)) as words from given
),
retrying as (
    update carafe.jobs j
    set state = 'retrying', attempt = j.attempt + 1, worker = null, deadline_at = null,
        due_at = now() + least(greatest(cast((select words from told) -> (j.id || ' ' || j.fence) ->> 0 as float8), 0), 316224000)
            * interval '1 second',
        trace = coalesce((select words from told) -> (j.id || ' ' || j.fence) ->> 1, j.trace)
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running'
        and ((j.id, j.fence) in (select id, fence from given where not final)) is true
        and j.attempt + 1 < j.max_attempts and j.cancel_requested_at is null
    returning j.id, j.kind, j.attempt, j.max_attempts, j.fence, j.started_at, j.args, 'retrying' as outcome
),
ended as (
    delete from carafe.jobs j
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running'
        and ((j.id, j.fence) in (select id, fence from given)) is true
        and ((j.id, j.fence) in (select id, fence from given where final)
            or j.attempt + 1 >= j.max_attempts or j.cancel_requested_at is not null)
    returning j.*,
        case when (j.id, j.fence) in (select id, fence from given where final) or j.cancel_requested_at is null
            then 'dead' else 'cancelled' end as outcome
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error_class, error, error_fingerprint)
    select e.id, e.kind, e.queue, e.outcome, e.args, e.secrets, e.version, e.attempt + 1, e.max_attempts, e.fence, e.snoozes,
        e.releases, e.timeout, e.unique_key, e.worker, e.created_at, e.due_at, e.started_at, coalesce(g.traced, e.trace),
        e.created_by, e.progress, e.progress_note, e.cancel_requested_at, now(), g.error_class, g.error, g.fingerprint
    from ended e full join given g on g.id = e.id and g.fence = e.fence
    where num_nonnulls(e.id) = 1
),
failed as (
    select f.id, f.kind, f.attempt, f.max_attempts, f.fence, f.started_at, f.args, f.outcome as state, g.cause, g.error_class,
        g.error, g.traceback
    from (
        select id, kind, attempt, max_attempts, fence, started_at, args, outcome from retrying
        union all
        select id, kind, attempt + 1, max_attempts, fence, started_at, args, outcome from ended
    ) as f
    full join given g on g.id = f.id and g.fence = f.fence
    where num_nonnulls(f.id) = 1
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
