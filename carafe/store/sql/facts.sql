-- The facts that decide whether a queue's jobs run: pause, leader, workers and their slots, pods, the last sample, and a
-- sample of a minute before that. The version of a kind is the newest version that a worker knows. A worker that does not
-- report its versions counts as knowing every version.
select now() as now, q.paused_at, q.paused_by, q.paused_reason,
    (select holder_name from carafe.leases where name = 'steward' and expires_at > now()) as leader,
    w.*, p.*, k.kinds, k.versions,
    g.at as sampled_at, g.queued as sampled_queued, g.held as sampled_held, g.running as sampled_running,
    g.scheduled as sampled_scheduled, g.retrying as sampled_retrying, g.dead as sampled_dead, g.oldest_wait as sampled_wait, g.wanted,
    b.at as before_at, b.queued as before_queued, b.running as before_running, b.scheduled as before_scheduled,
    b.retrying as before_retrying
from carafe.queues q
cross join (
    select count(*) as workers, count(*) filter (where v.state = 'draining') as draining,
        coalesce(sum(v.concurrency) filter (where v.state = 'running'), 0) as slots,
        coalesce(sum(least(v.concurrency, r.running)) filter (where v.state = 'running'), 0) as slots_used
    from carafe.workers v
    cross join lateral (select count(*) as running from carafe.jobs j where j.worker = v.id and j.state = 'running') as r
    where v.state in ('running', 'draining') and v.beat_at > now() - interval '20 seconds'
) as w
cross join (
    select array_agg(n.kind) as kinds, array_agg(n.version) as versions
    from (
        select u.kind, max(coalesce(u.version, 2147483647)) as version
        from carafe.workers v cross join lateral unnest(v.kinds, v.versions) as u(kind, version)
        where v.state = 'running' and v.beat_at > now() - interval '20 seconds' and u.kind is not null
        group by u.kind
    ) as n
) as k
cross join (
    select count(*) as pods, count(*) filter (where ready) as pods_ready,
        count(*) filter (where trouble <> '') as pods_troubled,
        (array_agg(name order by trouble_since, name) filter (where trouble <> ''))[1] as trouble_pod,
        (array_agg(phase order by trouble_since, name) filter (where trouble <> ''))[1] as trouble_phase,
        (array_agg(trouble order by trouble_since, name) filter (where trouble <> ''))[1] as trouble,
        min(trouble_since) filter (where trouble <> '') as trouble_since
    from carafe.pods where gone_at is null and not deleting and confirmed_at > now() - interval '30 seconds'
) as p
left join lateral (
    select * from carafe.gauges where queue = q.name and at > now() - interval '1 minute' order by at desc limit 1
) as g on true
left join lateral (
    select * from carafe.gauges
    where queue = q.name and at > g.at - interval '5 minutes' and at <= g.at - interval '55 seconds' order by at desc limit 1
) as b on true
where q.name = :queue
