-- Ends attempts in every way except success, each only under its own fence and for the worker that claimed it: the job
-- retries, waits, is queued again, or ends. `states` has the state that each job enters, and `spends` has what that costs:
-- an 'attempt', a 'snooze', a 'release', or nothing (null). A job that was to be retried is dead if no attempt is left. A
-- job that was to run again, for whatever reason, is cancelled if somebody has requested that. A failure (an end with a
-- cause) is recorded as a failed attempt. Jobs of a paused queue or kind come back without `hinted_at`.
-- Rows are found and joined as in finish.sql. `told` has the given values that an update needs, by id and fence.
with given as materialized (
    select distinct on (id, fence) * from unnest(:ids::uuid[], :fences::bigint[], :states::text[], :spends::text[],
        :causes::text[], :error_classes::text[], :errors::text[], :tracebacks::text[], :fingerprints::text[],
        :delays::float8[], :traces::text[])
        as g(id, fence, state, spends, cause, error_class, error, traceback, fingerprint, delay, traced)
),
told as materialized (
    select jsonb_object_agg(id || ' ' || fence,
        jsonb_build_object('state', state, 'spends', spends, 'delay', delay, 'traced', traced)) as words
    from given
),
kept as (
    update carafe.jobs j
    set worker = null, deadline_at = null,
        (state, attempt, snoozes, releases, started_at, due_at, hinted_at, trace) = (
            select t.state,
                j.attempt + case t.spends when 'attempt' then 1 else 0 end,
                j.snoozes + case t.spends when 'snooze' then 1 else 0 end,
                j.releases + case t.spends when 'release' then 1 else 0 end,
                case t.state when 'retrying' then j.started_at end,
                case t.state when 'queued' then j.due_at
                    else now() + least(greatest(t.delay, 0), 316224000) * interval '1 second' end,
                case t.state when 'queued' then clock_timestamp() else j.hinted_at end,
                coalesce(t.traced, j.trace)
            from jsonb_to_record((select words from told) -> (j.id || ' ' || j.fence))
                as t(state text, spends text, delay float8, traced text)
        )
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.worker = :worker
        and ((j.id, j.fence) in (select id, fence from given where state not in ('dead', 'cancelled'))) is true
        and (((j.id, j.fence) in (select id, fence from given where state = 'retrying')) is not true
            or j.attempt + 1 < j.max_attempts)
        and j.cancel_requested_at is null
    returning j.id, j.kind, j.state, j.attempt, j.max_attempts, j.fence, j.started_at, j.args, j.version,
        case when j.state = 'queued' and {unpaused} then j.hinted_at end as hinted_at
),
ended as (
    delete from carafe.jobs j
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.worker = :worker
        and ((j.id, j.fence) in (select id, fence from given)) is true
        and (((j.id, j.fence) in (select id, fence from given where state in ('dead', 'cancelled'))) is true
            or ((j.id, j.fence) in (select id, fence from given where state = 'retrying')) is true
                and j.attempt + 1 >= j.max_attempts
            or j.cancel_requested_at is not null)
    returning j.*
),
over as (
    select e.*, g.cause, g.error_class, coalesce(g.error, 'cancelled by an operator') as error, g.traceback, g.fingerprint,
        g.traced, e.attempt + case g.spends when 'attempt' then 1 else 0 end as spent,
        case when g.state in ('dead', 'cancelled') then g.state when e.cancel_requested_at is not null then 'cancelled'
            else 'dead' end as outcome
    from ended e full join given g on g.id = e.id and g.fence = e.fence
    where num_nonnulls(e.id) = 1
),
moved as (
    insert into carafe.jobs_ended ({carried}, state, attempt, trace, cancel_requested_at, ended_at, error_class, error,
        error_fingerprint)
    select {carried}, outcome, spent, coalesce(traced, trace), cancel_requested_at, now(), error_class, error, fingerprint
    from over
),
settled as (
    select k.id, k.kind, k.state, k.attempt, k.max_attempts, k.fence, k.started_at, k.args, k.version, k.hinted_at, g.cause,
        g.error_class, g.error, g.traceback
    from kept k full join given g on g.id = k.id and g.fence = k.fence
    where num_nonnulls(k.id) = 1
    union all
    select id, kind, outcome, spent, max_attempts, fence, started_at, args, version, null, cause, error_class, error, traceback
    from over
),
recorded as (
    insert into carafe.attempts (job_id, kind, attempt, fence, cause, error_class, error, traceback, worker, worker_name,
        started_at)
    select id, kind, attempt, fence, cause, error_class, error, traceback, :worker, :worker_name, started_at
    from settled where cause is not null
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, state, 0, width_bucket(run, :bounds::float8[]), count(*), 0, sum(run)
    from (select kind, state, cast(extract(epoch from now() - started_at) as float8) as run
        from settled where state not in ('queued', 'scheduled')) as times
    group by 1, 2, 3, 4
)
select id, kind, state, attempt, max_attempts, cast(args as text) as args, version, hinted_at, null as result, error from settled
