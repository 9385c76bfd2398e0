-- The failed attempts of one job, oldest first.
select attempt, cause, error_class, error, traceback, worker, worker_name, started_at, ended_at
from carafe.attempts where job_id = :id order by attempt, ended_at
