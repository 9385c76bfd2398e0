-- A worker has ended by itself, with nothing in hand.
update carafe.workers set state = 'stopped', stopped_at = now() where id = :id
