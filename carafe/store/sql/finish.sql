-- Ends running jobs as succeeded, each only under its own fence: moves their rows to the table of ended jobs and counts
-- them, in one statement. Writing an end twice changes nothing. All other ends are written by settle.sql.
-- Rows are found by their ids, only through the primary key, and matched by their fences in a hash table (`in … is true` is
-- never made a join). The values that were given for each job are joined to the deleted rows by a full join, which cannot be
-- executed as a comparison of each row with each other row (see docs/plans.md).
with given as materialized (
    select distinct on (id, fence) * from unnest(:ids::uuid[], :fences::bigint[], :results::text[]) as g(id, fence, result)
),
ended as (
    delete from carafe.jobs j
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running'
        and ((j.id, j.fence) in (select id, fence from given)) is true
    returning j.*
),
moved as (
    insert into carafe.jobs_ended ({carried}, state, attempt, trace, cancel_requested_at, ended_at, result)
    select {e.carried}, 'succeeded', e.attempt + 1, e.trace, e.cancel_requested_at, now(), cast(g.result as jsonb)
    from ended e full join given g on g.id = e.id and g.fence = e.fence
    where num_nonnulls(e.id) = 1
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, 'succeeded', width_bucket(wait, :bounds::float8[]), width_bucket(run, :bounds::float8[]),
        count(*), sum(wait), sum(run)
    from (select kind, cast(extract(epoch from started_at - due_at) as float8) as wait,
            cast(extract(epoch from now() - started_at) as float8) as run from ended) as times
    group by 1, 2, 3, 4
)
select id from ended
