-- Pauses a queue. From the commit on, none of its jobs is claimed, and none gets a hint. A queue that is paused already
-- keeps the time, the person and the reason of its pause, and is returned as `unchanged`. Returns no row if there is no such
-- queue.
with before as materialized (select * from carafe.queues where name = cast(:name as text) for update)
update carafe.queues q
set paused_at = coalesce(b.paused_at, now()),
    paused_by = case when b.paused_at is null then cast(:by as text) else b.paused_by end,
    paused_reason = case when b.paused_at is null then cast(:reason as text) else b.paused_reason end
from before b
where q.name = b.name
returning q.name, q.paused_at, q.paused_by, q.paused_reason, b.paused_at is not null as unchanged
