-- Changes the error of a job that this same transaction has ended. The row is found by its id, in the one partition of the
-- day of its end.
update carafe.jobs_ended set error = cast(:error as text)
where id = :id and state = cast(:state as text) and ended_at = now()
