-- Kinds of queued jobs that workers have left lying, since none of them knows these; among `limit` jobs.
select kind, count(*) as number, min(due_at) as since
from (
    select kind, due_at from carafe.jobs
    where state = 'queued' and queue = :queue and hinted_at > now() order by hinted_at desc limit :limit
) as later
where kind <> all (:kinds::text[])
group by 1 order by number desc, kind limit 3
