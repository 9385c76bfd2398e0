-- Resumes a queue. No row: there is no such queue.
update carafe.queues set paused_at = null, paused_by = null, paused_reason = null
where name = cast(:name as text)
returning name, paused_at, paused_by, paused_reason
