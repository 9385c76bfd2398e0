-- Since when the oldest queued job could run, in seconds, and of how many that is true: `limit` at most are looked at.
-- A time may be infinite, and that has no age; a job whose kind is paused could not run.
select count(*) as number,
    cast(extract(epoch from now() - greatest(least(min(due_at), now()), timestamptz '2000-01-01 00:00+00')) as float8) as seconds
from (
    select kind, due_at from carafe.jobs where state = 'queued' order by queue desc, hinted_at desc limit :limit
) as found
where kind <> all (array(select kind from carafe.paused_kinds))
