-- Resumes a queue. A queue that was not paused is returned as `unchanged`. Returns no row if there is no such queue.
with before as materialized (select * from carafe.queues where name = cast(:name as text) for update)
update carafe.queues q set paused_at = null, paused_by = null, paused_reason = null
from before b
where q.name = b.name
returning q.name, q.paused_at, q.paused_by, q.paused_reason, b.paused_at is null as unchanged
