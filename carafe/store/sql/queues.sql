-- Each queue with its numbers of jobs, and the age in seconds of the oldest job that could run. The age is never negative,
-- and never goes back beyond the year 2000 (a time may be infinite). Jobs whose kind is paused cannot run: `held` of the queued.
select q.name,
    count(j.id) filter (where j.state = 'queued') as queued,
    count(j.id) filter (where j.state = 'queued' and j.kind = any (array(select kind from carafe.paused_kinds))) as held,
    count(j.id) filter (where j.state = 'running') as running,
    count(j.id) filter (where j.state = 'scheduled') as scheduled,
    count(j.id) filter (where j.state = 'retrying') as retrying,
    (select count(*) from carafe.jobs_dead d where d.queue = q.name and d.resolved_at is null) as dead,
    cast(extract(epoch from now() - greatest(least(min(j.due_at)
        filter (where j.state = 'queued' and j.kind <> all (array(select kind from carafe.paused_kinds))), now()),
        timestamptz '2000-01-01 00:00+00')) as float8) as oldest_wait,
    q.paused_at, q.paused_by, q.paused_reason
from carafe.queues q left join carafe.jobs j on j.queue = q.name
group by q.name order by q.name
