-- Cancels jobs: those that wait end at once; a running one is marked, and its worker stops it. Rows are found as in
-- claim.
with ended as (
    delete from carafe.jobs where id = any(:ids::uuid[]) and state || '' in ('scheduled', 'queued', 'retrying') returning *
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error)
    select id, kind, queue, 'cancelled', args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        now(), now(), cast(:reason as text)
    from ended
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, 'cancelled', 0, 0, count(*), 0, 0 from ended group by kind
),
asked as (
    update carafe.jobs set cancel_requested_at = coalesce(cancel_requested_at, now())
    where id = any(:ids::uuid[]) and state || '' = 'running'
    returning *
)
select id, kind, 'cancelled' as state, attempt, max_attempts, cast(args as text) as args, null as result,
    cast(:reason as text) as error
from ended
union all
select id, kind, state, attempt, max_attempts, cast(args as text), null, null from asked
