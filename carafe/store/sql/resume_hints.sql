-- The first queued jobs of a queue that has been resumed, or whose list was emptied since a kind is paused; oldest first, a
-- bounded batch, stamped for new hints. A stamp in the future is a pause of its own (see defer), and jobs of a paused kind get
-- no hint. Found and changed as in promote.
with waiting as (
    select id from carafe.jobs
    where queue = cast(:queue as text) and state = 'queued' and hinted_at <= clock_timestamp()
        and kind <> all (array(select kind from carafe.paused_kinds))
    order by hinted_at limit :limit for update skip locked
)
update carafe.jobs j set hinted_at = clock_timestamp() where j.id = any(array(select id from waiting))
returning j.id, j.kind, j.hinted_at
