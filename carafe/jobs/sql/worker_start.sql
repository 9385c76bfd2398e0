-- Announces a worker process.
insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
values (:id, :name, :host, :pid, :incarnation, :version, :kinds::text[], :concurrency, 'running')
