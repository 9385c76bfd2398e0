-- Announces a worker process; one that was declared lost while it was away comes back under its own id. Earlier processes
-- of the same pod are gone for certain (a pod runs one worker at a time), and are declared so.
with predecessors as (
    update carafe.workers set state = 'lost', stopped_at = now()
    where :pod::text <> '' and starts_with(incarnation, :pod) and id <> :id and state in ('running', 'draining')
)
insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, versions, concurrency, state)
values (:id, :name, :host, :pid, :incarnation, :version, :kinds::text[], :versions::integer[], :concurrency, 'running')
on conflict (id) do update set state = 'running', stopped_at = null, beat_at = now()
