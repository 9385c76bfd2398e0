-- The number of jobs that are offered to workers before a given job, counted up to `limit`.
select count(*) as number from (
    select from carafe.jobs where queue = :queue and state = 'queued' and hinted_at < :hinted_at::timestamptz
    order by hinted_at desc limit :limit
) as found
