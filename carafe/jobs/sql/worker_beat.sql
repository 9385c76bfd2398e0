-- A worker is alive, and what it holds is compared with the truth, both ways (DESIGN.md rule 9). Rows of `what`:
-- `beat` (with Postgres's time; none: it was declared lost), `cancel` (somebody wants this running job cancelled),
-- `lost` (held by the worker, no longer its own), `unheld` (running under it since before `since`, and not held), `drain`
-- (somebody wants this worker to drain).
with beat as (
    update carafe.workers set beat_at = now(), state = :state where id = :id and state in ('running', 'draining')
    returning id, now() as at, drain_requested_at
)
select 'beat' as what, id, null::bigint as fence, at from beat
union all
select 'drain', id, null, drain_requested_at from beat where drain_requested_at is not null
union all
select 'cancel', id, fence, null from carafe.jobs
where worker = :id and state = 'running' and cancel_requested_at is not null
union all
select 'lost', h.id, h.fence, null from unnest(:ids::uuid[], :fences::bigint[]) as h(id, fence)
where not exists (
    select from carafe.jobs j where j.id = h.id and j.fence = h.fence and j.state = 'running' and j.worker = :id)
union all
select 'unheld', id, fence, null from carafe.jobs
where worker = :id and state = 'running' and started_at < :since::timestamptz
    and id <> all (:ids::uuid[]) and id <> all (:claiming::uuid[])
