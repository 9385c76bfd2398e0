-- Asks a worker to drain; the worker sees that in the answer to its next heartbeat. A worker that was asked before keeps the
-- time of the first request. Returns no row if no live worker has this id.
update carafe.workers set drain_requested_at = coalesce(drain_requested_at, now())
where id = :id and state in ('running', 'draining')
returning id, name, drain_requested_at
