-- Samples of a queue by step. Each step is divided into `parts`, and one sample is read of each, so that a week costs as
-- much as an hour.
select n as bucket, avg(g.queued)::float8 as queued, avg(g.running)::float8 as running, max(g.oldest_wait) as oldest_wait,
    avg(g.dead)::float8 as dead, avg(g.slots)::float8 as slots, avg(g.workers)::float8 as workers,
    avg(g.wanted)::float8 as wanted
from generate_series(0, :points::integer - 1) as n
cross join generate_series(0, :parts::integer - 1) as part
cross join lateral (
    select queued, running, oldest_wait, dead, slots, workers, wanted from carafe.gauges
    where queue = :queue
        and at >= :since::timestamptz + (n + part / :parts::float8) * :step::float8 * interval '1 second'
        and at < :since::timestamptz + (n + (part + 1) / :parts::float8) * :step::float8 * interval '1 second'
    order by at limit 1
) as g
group by n
