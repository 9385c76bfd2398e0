-- Changes the error of a job that this same transaction has ended. Found by its id in the one partition of its end.
update carafe.jobs_ended set error = cast(:error as text)
where id = :id and state = cast(:state as text) and ended_at = now()
