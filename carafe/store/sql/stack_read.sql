-- The last question where a job is, with its answer and the worker that was asked.
select s.job_id, s.fence, s.requested_at, s.answered_at, s.lines,
    (select w.name from carafe.workers w where w.id = s.worker) as worker_name,
    (select cast(extract(epoch from now() - least(w.beat_at, now())) as float8) from carafe.workers w where w.id = s.worker)
        as heartbeat_age
from carafe.stacks s where s.job_id = :id
