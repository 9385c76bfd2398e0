-- The last question where a job is, and its answer.
select job_id, fence, requested_at, answered_at, lines from carafe.stacks where job_id = :id
