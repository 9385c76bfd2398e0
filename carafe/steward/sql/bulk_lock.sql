-- Takes a bulk action for one batch. No row: it was paused, cancelled or ended meanwhile, or somebody else works on it.
-- (As text: a session's connection decodes JSON, one of the pool does not.)
select *, cast(cursor as text) as kept from carafe.bulk_actions
where id = :id and state = 'running' and next_at <= clock_timestamp()
for update skip locked
