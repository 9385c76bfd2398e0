-- The last failed attempt of each of these jobs, with at most `longest` characters of its error. An interrupted attempt has
-- not failed.
select distinct on (job_id) job_id, error_class, left(error, :longest::integer) as error
from carafe.attempts where job_id = any(:ids::uuid[]) and cause <> 'interrupted'
order by job_id, attempt desc, ended_at desc
