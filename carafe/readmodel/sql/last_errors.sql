-- The last failed attempt of each of these jobs.
select distinct on (job_id) job_id, error_class, left(error, 1000) as error
from carafe.attempts where job_id = any(:ids::uuid[])
order by job_id, attempt desc, ended_at desc
