-- Asks a worker to drain; it sees that in its next beat. One that was asked before keeps since when. No row: none is alive
-- under this id.
update carafe.workers set drain_requested_at = coalesce(drain_requested_at, now())
where id = :id and state in ('running', 'draining')
returning id, name, drain_requested_at
