-- The kinds and errors of the jobs that died in the last `seconds`, among the newest `limit` deaths that nobody has
-- resolved.
select kind, error_class, count(*) as number, min(ended_at) as since
from (
    select kind, error_class, ended_at from carafe.jobs_dead
    where resolved_at is null and ended_at > now() - cast(:seconds as float8) * interval '1 second'
    order by ended_at desc, id desc limit :limit
) as recent
group by 1, 2 order by number desc, since limit 3
