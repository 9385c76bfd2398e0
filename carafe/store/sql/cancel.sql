-- Cancels jobs. Waiting jobs end at once; a running job is marked, and its worker stops it. Rows are found as in claim.sql.
with ended as (
    delete from carafe.jobs where id = any(:ids::uuid[]) and state || '' in ('scheduled', 'queued', 'retrying') returning *
),
moved as (
    insert into carafe.jobs_ended ({carried}, state, attempt, trace, cancel_requested_at, ended_at, error)
    select {carried}, 'cancelled', attempt, trace, now(), now(), cast(:reason as text)
    from ended
    returning *
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
select {ended} from moved j
union all
select {live} from asked j
