-- Live workers and, after them, those that ended in the last hour: the newest `workers` of them. Each has the jobs that it
-- runs (at most `limit`) and its pod.
select w.id, w.name, w.host, w.pid, w.version, w.kinds, w.concurrency, w.state, w.started_at, w.stopped_at,
    w.drain_requested_at is not null as drain_requested,
    cast(extract(epoch from now() - greatest(least(w.beat_at, now()), timestamptz '2000-01-01 00:00+00')) as float8) as heartbeat_age,
    coalesce(p.name, '') as pod, coalesce(p.node, '') as node,
    coalesce(r.ids, '{}') as ids, coalesce(r.kinds, '{}') as running_kinds, coalesce(r.seconds, '{}') as seconds,
    n.number as running
from carafe.workers w
left join carafe.pods p on starts_with(w.incarnation, 'pod ') and p.uid = split_part(w.incarnation, ' ', 2)
cross join lateral (select count(*) as number from carafe.jobs j where j.worker = w.id and j.state = 'running') as n
cross join lateral (
    select array_agg(id order by started_at) as ids, array_agg(kind order by started_at) as kinds,
        array_agg(cast(extract(epoch from now() - greatest(least(started_at, now()), timestamptz '2000-01-01 00:00+00')) as float8)
            order by started_at) as seconds
    from (
        select id, kind, started_at from carafe.jobs j
        where j.worker = w.id and j.state = 'running' order by started_at limit :limit
    ) as first
) as r
where w.state in ('running', 'draining') or w.stopped_at > now() - interval '1 hour'
order by w.state not in ('running', 'draining'), w.started_at desc, w.id
limit :workers
