-- Asks the worker of a running job where that is. Another question of the same claim that is not answered yet stays, with
-- its time. Questions of an hour ago are deleted. No row: the job does not run.
with old as (
    delete from carafe.stacks where requested_at < now() - interval '1 hour' and job_id <> cast(:id as uuid)
)
insert into carafe.stacks as s (job_id, fence, worker)
select id, fence, worker from carafe.jobs where id = :id and state || '' = 'running'
on conflict (job_id) do update
set fence = excluded.fence, worker = excluded.worker, answered_at = null, lines = null,
    requested_at = case when s.answered_at is null and s.fence = excluded.fence then s.requested_at else now() end
returning job_id, fence, requested_at, answered_at, lines,
    (select w.name from carafe.workers w where w.id = s.worker) as worker_name,
    (select cast(extract(epoch from now() - least(w.beat_at, now())) as float8) from carafe.workers w where w.id = s.worker)
        as heartbeat_age
