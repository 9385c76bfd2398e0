-- The numbers of queued and of running jobs by kind, among the `limit` newest queued and `limit` running ones; `seen` is the
-- number of all jobs of that state which were read. The orders make the planner use the states' indexes (see live_counts).
select state, kind, count(*) as number, sum(count(*)) over (partition by state)::bigint as seen
from (
    (select state, kind from carafe.jobs where state = 'queued' order by queue desc, hinted_at desc limit :limit)
    union all
    (select state, kind from carafe.jobs where state = 'running' order by worker limit :limit)
) as found
group by state, kind
