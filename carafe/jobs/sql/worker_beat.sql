-- A worker is alive; answers with its running jobs that somebody wants cancelled. No row at all: it was declared lost.
with beat as (
    update carafe.workers set beat_at = now(), state = :state where id = :id and state in ('running', 'draining')
    returning id
)
select beat.id as worker, j.id as job_id, j.fence
from beat left join carafe.jobs j on j.worker = beat.id and j.state = 'running' and j.cancel_requested_at is not null
