-- Hands back what a claim of this worker took whose reply was lost: of these ids, the rows that run under it.
update carafe.jobs
set state = 'queued', worker = null, started_at = null, deadline_at = null, hinted_at = clock_timestamp()
where id = any(:ids::uuid[]) and worker = :worker and state = 'running'
returning id
