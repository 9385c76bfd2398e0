-- Stores how far a running attempt has come, only under its own fence. The row is found as in claim.sql.
update carafe.jobs set progress = :fraction, progress_note = :note
where id = :id and fence = :fence and state || '' = 'running'
