-- Locks a bulk action for one batch. Returns no row if the action was paused or cancelled, has ended, or is locked by
-- another process. (JSON is returned as text, since a session's connection would decode it and a connection of the pool
-- would not.)
select *, cast(cursor as text) as kept from carafe.bulk_actions
where id = :id and state = 'running' and next_at <= clock_timestamp()
for update skip locked
