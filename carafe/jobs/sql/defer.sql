-- Leaves queued jobs that this worker cannot run to others: their hints are due again after a growing pause.
update carafe.jobs
set deferrals = deferrals + 1,
    hinted_at = clock_timestamp() + least(60, power(2, least(deferrals, 6))) * (0.75 + random() / 2) * interval '1 second'
where id = any(:ids::uuid[]) and state = 'queued'
