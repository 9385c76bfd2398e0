-- Leaves queued jobs that this worker cannot run to others: their hints are due again after a growing pause, of `longest`
-- seconds at most. Rows are found as in claim.
update carafe.jobs
set deferrals = deferrals + 1,
    hinted_at = clock_timestamp() + least(:longest::float8, power(2, least(deferrals, 10))) * (0.75 + random() / 2) * interval '1 second'
where id = any(:ids::uuid[]) and state || '' = 'queued'
