-- The number of jobs in each live state, each counted up to `limit` by its own index, and the numbers of the last sample if
-- that is fresh. The orders make the planner use those indexes, whatever it assumes about the states. Queued jobs are
-- counted from the newest on, because at the other end of the index are the entries of jobs that a drain has just taken.
-- Scheduled and retrying jobs share an index and are distinguished in the table, except if both together are too many and a
-- sample has both numbers.
select
    (select count(*) from (
        select from carafe.jobs where state = 'queued' order by queue desc, hinted_at desc limit :limit) as found) as queued,
    (select count(*) from (
        select from carafe.jobs where state = 'running' order by worker limit :limit) as found) as running,
    (select greatest(0, reltuples)::bigint from pg_class where oid = 'carafe.jobs'::regclass) as planned,
    w.number > 2 * :limit::bigint as too_many, apart.scheduled, apart.retrying, g.queued as sampled_queued,
    g.running as sampled_running, g.scheduled as sampled_scheduled, g.retrying as sampled_retrying
from (
    select count(*) as number from (
        select from carafe.jobs where state in ('scheduled', 'retrying') order by due_at limit 2 * :limit::bigint + 1) as found
) as w
left join lateral (
    select sum(queued) as queued, sum(running) as running, sum(scheduled) as scheduled, sum(retrying) as retrying
    from carafe.gauges where at = (select max(at) from carafe.gauges where at > now() - interval '1 minute')
) as g on true
cross join lateral (
    select count(*) filter (where state = 'scheduled') as scheduled, count(*) filter (where state = 'retrying') as retrying
    from (
        select state from carafe.jobs
        where state in ('scheduled', 'retrying') and (w.number <= 2 * :limit::bigint or g.scheduled is null)
        order by due_at limit 2 * :limit::bigint
    ) as found
) as apart
