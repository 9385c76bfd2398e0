-- What a job logged, its newest claims first.
select fence, attempt, first, times, levels, texts
from carafe.job_logs
where job_id = :id
order by fence desc, first desc
limit :limit
