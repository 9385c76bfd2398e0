-- How far a running attempt is; only under its own fence. The row is found as in claim.
update carafe.jobs set progress = :fraction, progress_note = :note
where id = :id and fence = :fence and state || '' = 'running'
