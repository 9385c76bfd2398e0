-- Puts running jobs back for later, each only under its own fence, without spending an attempt; one that somebody wants
-- cancelled ends so instead. Rows are found as in finish; `told` holds what was given, by id and fence.
with told as materialized (
    select jsonb_object_agg(id || ' ' || fence, jsonb_build_array(delay, traced)) as words
    from unnest(:ids::uuid[], :fences::bigint[], :delays::float8[], :traces::text[]) as g(id, fence, delay, traced)
),
snoozed as (
    update carafe.jobs j
    set state = 'scheduled', worker = null, started_at = null, deadline_at = null, snoozes = j.snoozes + 1,
        due_at = now() + least(greatest(cast((select words from told) -> (j.id || ' ' || j.fence) ->> 0 as float8), 0), 316224000)
            * interval '1 second',
        trace = coalesce((select words from told) -> (j.id || ' ' || j.fence) ->> 1, j.trace)
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.cancel_requested_at is null
        and (select words from told) -> (j.id || ' ' || j.fence) is not null
    returning j.id, j.kind, j.state, j.attempt, j.max_attempts, cast(j.args as text) as args
),
cancelled as (
    delete from carafe.jobs j
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.cancel_requested_at is not null
        and (select words from told) -> (j.id || ' ' || j.fence) is not null
    returning j.*
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error)
    select id, kind, queue, 'cancelled', args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, now(), 'cancelled by an operator'
    from cancelled
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, 'cancelled', 0, 0, count(*), 0, 0 from cancelled group by kind
)
select id, kind, state, attempt, max_attempts, args, null as result, null as error from snoozed
union all
select id, kind, 'cancelled', attempt, max_attempts, cast(args as text), null, 'cancelled by an operator' from cancelled
