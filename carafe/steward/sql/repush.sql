-- Queued jobs whose hints are lost (older than `before`, not older than `after`, in a queue that is not paused), oldest first, a
-- bounded batch: their stamps are renewed, so that the next look does not take them again. Those of a paused kind lose their
-- stamp and come back without one: no look passes them again until rehint. A stamp in the future is a pause (see defer);
-- `before` is never in the future. Found and changed as in promote.
with lost as (
    select id, hinted_at from carafe.jobs
    where queue = :queue and state = 'queued'
        and hinted_at < :before::timestamptz and hinted_at >= :after::timestamptz
        and (select paused_at is null from carafe.queues where name = :queue)
    order by hinted_at limit :limit for update skip locked
)
update carafe.jobs j
set hinted_at = case when j.kind <> all (array(select kind from carafe.paused_kinds)) then clock_timestamp() end
where j.id = any(array(select id from lost))
returning j.id, j.kind, j.hinted_at, (select max(hinted_at) from lost) as reached
