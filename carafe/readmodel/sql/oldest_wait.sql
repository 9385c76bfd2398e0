-- Since when the oldest queued job could run, in seconds, and of how many that is true: `limit` at most are looked at.
select count(*) as number, cast(coalesce(extract(epoch from now() - min(due_at)), 0) as float8) as seconds
from (
    select due_at from carafe.jobs where state = 'queued' order by queue desc, hinted_at desc limit :limit
) as found
