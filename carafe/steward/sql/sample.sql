-- Samples every queue: the numbers of waiting, running and dead jobs, and the oldest wait in seconds; also the live workers
-- with their slots, and how many slots are in use. With `scales`, it also computes how many workers the autoscaler's formula
-- asks for (deploy/keda): one slot for each job that waits or has run for a second, and each worker that has been busy for
-- over five seconds. While a queue is paused, its list counts as empty. `held` is the number of
-- queued jobs whose kind is paused; they count neither for the formula nor for the oldest wait.
insert into carafe.gauges (queue, queued, held, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots, used,
    wanted)
select q.name, coalesce(j.queued, 0), coalesce(j.held, 0), coalesce(j.running, 0), coalesce(j.scheduled, 0), coalesce(j.retrying, 0),
    (select count(*) from carafe.jobs_dead d where d.queue = q.name and d.resolved_at is null),
    extract(epoch from now() - greatest(least(j.oldest, now()), timestamptz '2000-01-01 00:00+00')),
    q.paused_at is not null, w.workers, w.slots, w.used,
    case when :scales::boolean then greatest(w.busy, ceil(
        (case when q.paused_at is null then coalesce(j.queued - j.held, 0) else 0 end + coalesce(j.lasting, 0))
        / coalesce((select concurrency from carafe.workers order by started_at desc limit 1), 5)::float8)) end
from carafe.queues q
left join (
    select queue,
        count(*) filter (where state = 'queued') as queued,
        count(*) filter (where state = 'queued' and kind = any (k.paused)) as held,
        count(*) filter (where state = 'running') as running,
        count(*) filter (where state = 'running' and started_at < now() - interval '1 second') as lasting,
        count(*) filter (where state = 'scheduled') as scheduled,
        count(*) filter (where state = 'retrying') as retrying,
        min(due_at) filter (where state = 'queued' and kind <> all (k.paused)) as oldest
    from carafe.jobs cross join (select array(select kind from carafe.paused_kinds) as paused) as k
    group by queue
) as j on j.queue = q.name
cross join (
    select count(*) as workers, coalesce(sum(v.concurrency) filter (where v.state = 'running'), 0) as slots,
        coalesce(sum(least(v.concurrency, r.running)), 0) as used,
        count(*) filter (where v.state = 'running' and r.longest < now() - interval '5 seconds') as busy
    from carafe.workers v
    cross join lateral (
        select count(*) as running, min(j.started_at) as longest from carafe.jobs j
        where j.worker = v.id and j.state = 'running'
    ) as r
    where v.state in ('running', 'draining') and v.beat_at > now() - interval '20 seconds'
) as w
