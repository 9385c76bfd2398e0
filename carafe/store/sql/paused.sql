-- The queues that are paused.
select name, paused_at, paused_by, paused_reason from carafe.queues where paused_at is not null
