-- A worker is alive, and what it holds is compared with the truth (docs/design rule 9). Rows of `what`: `beat` (with Postgres's
-- time; none: it was declared lost), `cancel` (somebody wants this job in hand cancelled), `lost` (in hand, and no longer its
-- own; only of the first `settled`), `drain` (somebody wants this worker to drain), `stack` (somebody asks where this job is).
-- What is in hand is found by its ids through the primary key, so that a beat costs what the worker holds, however many rows
-- have been its own before and are not vacuumed yet; worker_unheld looks the other way.
with beat as (
    update carafe.workers set beat_at = now(), state = :state where id = :id and state in ('running', 'draining')
    returning id, now() as at, drain_requested_at
),
held as materialized (
    select * from unnest(:ids::uuid[], :fences::bigint[]) with ordinality as h(id, fence, number)
),
own as materialized (
    select id, fence, cancel_requested_at from carafe.jobs
    where id = any(:ids::uuid[]) and state || '' = 'running' and worker = :id
)
select 'beat' as what, id, null::bigint as fence, at from beat
union all
select 'drain', id, null, drain_requested_at from beat where drain_requested_at is not null
union all
(select 'stack', job_id, fence, null from carafe.stacks where worker = :id and answered_at is null order by requested_at limit 20)
union all
select 'cancel', id, fence, null from held
where ((id, fence) in (select id, fence from own where cancel_requested_at is not null)) is true
union all
select 'lost', id, fence, null from held
where number <= :settled::bigint and ((id, fence) in (select id, fence from own)) is not true
