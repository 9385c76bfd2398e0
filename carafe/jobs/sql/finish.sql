-- Ends running jobs (succeeded or cancelled), each only under its own fence; one move into the ended table, counted in
-- the same statement. Writing an end twice changes nothing.
-- The state is compared in a way that no index serves: after an ANALYZE that saw nothing running, the planner would otherwise
-- look for the rows among all running ones, once for each end (a drain fell to an eighteenth), instead of by their ids.
with ended as (
    delete from carafe.jobs j
    using unnest(:ids::uuid[], :fences::bigint[], :results::text[]) as g(id, fence, result)
    where j.id = g.id and j.fence = g.fence and j.state || '' = 'running'
    returning j.*, g.result
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, result, error)
    select id, kind, queue, :state, args, secrets, version, attempt + 1, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, now(), cast(result as jsonb), cast(:reason as text)
    from ended
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, :state, width_bucket(wait, :bounds::float8[]), width_bucket(run, :bounds::float8[]),
        count(*), sum(wait), sum(run)
    from (select kind, cast(extract(epoch from started_at - due_at) as float8) as wait,
            cast(extract(epoch from now() - started_at) as float8) as run from ended) as times
    group by 1, 2, 3, 4
)
select id from ended
