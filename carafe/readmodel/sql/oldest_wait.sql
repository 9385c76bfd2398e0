-- The number of queued jobs, of which at most `limit` are counted, and the number of seconds for which the oldest of them
-- could have run. The seconds are never negative, and never go back beyond the year 2000 (a time may be infinite).
-- Jobs of a paused kind cannot run, so they are left out.
select count(*) as number,
    cast(extract(epoch from now() - greatest(least(min(due_at), now()), timestamptz '2000-01-01 00:00+00')) as float8) as seconds
from (
    select kind, due_at from carafe.jobs where state = 'queued' order by queue desc, hinted_at desc limit :limit
) as found
where kind <> all (array(select kind from carafe.paused_kinds))
