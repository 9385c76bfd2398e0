-- Leaves queued jobs that this worker cannot run to other workers: their hints are pushed again only after a pause, which
-- grows each time to at most `longest` seconds. Rows are found as in claim.sql.
update carafe.jobs
set deferrals = deferrals + 1,
    hinted_at = clock_timestamp() + least(:longest::float8, power(2, least(deferrals, 10))) * (0.75 + random() / 2) * interval '1 second'
where id = any(:ids::uuid[]) and state || '' = 'queued'
