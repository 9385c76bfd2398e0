-- Queued jobs whose hints are lost (older than `before`, in a queue that is not paused), oldest first, a bounded batch:
-- their stamps are renewed, so that the next look does not take them again. A stamp in the future is a pause (see defer);
-- `before` is never in the future.
with lost as (
    select id from carafe.jobs
    where queue = :queue and state = 'queued'
        and hinted_at < :before::timestamptz
        and queue <> all (array(select name from carafe.queues where paused_at is not null))
    order by hinted_at limit :limit for update skip locked
)
update carafe.jobs j set hinted_at = clock_timestamp() from lost where j.id = lost.id
returning j.id, j.kind, j.hinted_at
