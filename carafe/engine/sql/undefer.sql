-- A worker that knows these kinds has come: what waited for one is due for a hint now, a bounded batch. What waits has a stamp
-- in the future (see defer); these are found by the queue and the stamp, and changed by their ids.
with waiting as (
    select id from carafe.jobs
    where queue = any(array(select name from carafe.queues)) and state = 'queued' and hinted_at > now()
        and kind = any(:kinds::text[])
    limit :limit for update skip locked
)
update carafe.jobs set hinted_at = clock_timestamp() - interval '10 seconds', deferrals = 0
where id = any(array(select id from waiting))
returning id
