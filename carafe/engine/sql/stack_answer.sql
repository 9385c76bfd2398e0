-- Answers the question where a job is, if it is still asked of this claim.
update carafe.stacks set answered_at = now(), lines = :lines::text[] where job_id = :id and fence = :fence and answered_at is null
