-- Called when a worker that knows these kinds has arrived: hints that were deferred for lack of such a worker become due
-- now, in a bounded batch. A deferred job has a stamp in the future (see defer.sql). Such jobs are found by queue and stamp,
-- and changed by their ids.
with waiting as (
    select id from carafe.jobs
    where queue = any(array(select name from carafe.queues)) and state = 'queued' and hinted_at > now()
        and kind = any(:kinds::text[])
    limit :limit for update skip locked
)
update carafe.jobs set hinted_at = clock_timestamp() - interval '10 seconds', deferrals = 0
where id = any(array(select id from waiting))
returning id
