-- Pauses a queue: from the commit on nothing of it is claimed or hinted at. One that is paused already keeps since when, by
-- whom and why. No row: there is no such queue.
update carafe.queues
set paused_at = coalesce(paused_at, now()),
    paused_by = case when paused_at is null then cast(:by as text) else paused_by end,
    paused_reason = case when paused_at is null then cast(:reason as text) else paused_reason end
where name = cast(:name as text)
returning name, paused_at, paused_by, paused_reason
