-- Announces a worker process; one that was declared lost while it was away comes back under its own id.
insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
values (:id, :name, :host, :pid, :incarnation, :version, :kinds::text[], :concurrency, 'running')
on conflict (id) do update set state = 'running', stopped_at = null, beat_at = now()
