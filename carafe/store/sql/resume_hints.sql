-- The first queued jobs of a queue that was resumed, or whose list was emptied because a kind was paused; oldest first, in a
-- bounded batch. They get new stamps, for new hints. Jobs of a paused kind get none.
-- Jobs with a stamp in the future are left out, since their hints are deferred (see defer.sql). Rows are found and changed
-- as in promote.sql.
with waiting as (
    select id from carafe.jobs
    where queue = cast(:queue as text) and state = 'queued' and hinted_at <= clock_timestamp()
        and kind <> all (array(select kind from carafe.paused_kinds))
    order by hinted_at limit :limit for update skip locked
)
update carafe.jobs j set hinted_at = clock_timestamp() where j.id = any(array(select id from waiting))
returning j.id, j.kind, j.hinted_at
