-- Queued jobs whose hints are lost (stamps older than `before` and not older than `after`, in queues that are not paused),
-- oldest first, in a bounded batch. Their stamps are renewed, so that the next call does not return them again. Jobs of a
-- paused kind lose their stamps instead, and come back without one: no call returns them again until rehint.sql. A stamp in
-- the future means that the hint is deferred (see defer.sql); `before` is never in the future. Rows are found and changed as
-- in promote.sql.
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
