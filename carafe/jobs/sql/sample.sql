-- Samples every queue: what waits, runs and is dead, the oldest wait in seconds; and the workers alive with their slots.
insert into carafe.gauges (queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots)
select q.name, coalesce(j.queued, 0), coalesce(j.running, 0), coalesce(j.scheduled, 0), coalesce(j.retrying, 0),
    (select count(*) from carafe.jobs_dead d where d.queue = q.name and d.resolved_at is null),
    coalesce(greatest(0, extract(epoch from now() - j.oldest)), 0), q.paused_at is not null, w.workers, w.slots
from carafe.queues q
left join (
    select queue,
        count(*) filter (where state = 'queued') as queued,
        count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'scheduled') as scheduled,
        count(*) filter (where state = 'retrying') as retrying,
        min(due_at) filter (where state = 'queued') as oldest
    from carafe.jobs group by queue
) as j on j.queue = q.name
cross join (
    select count(*) as workers, coalesce(sum(concurrency) filter (where state = 'running'), 0) as slots
    from carafe.workers where state in ('running', 'draining') and beat_at > now() - interval '20 seconds'
) as w
