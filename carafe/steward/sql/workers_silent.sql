-- The workers that should be alive, with their last heartbeats. With `gone`, also ended workers whose jobs still have
-- running rows; then ended workers are deleted after a day. That reads the index entries of all jobs that these workers have
-- claimed since the last vacuum, so it is asked for less often when these are many. On Kubernetes, the rows have what is
-- known of the workers' pods: `pod_over` if the worker's container or its whole pod has ended since the worker began,
-- `death_…` if a death is this worker's, and `watched` if a death would be known within seconds.
-- The cluster's clocks are only compared with a tolerance of a minute, in order to tell this worker's death from an earlier
-- one. A container that is seen running again may be that of a successor, which Postgres's own times cannot show.
with forgotten as (
    delete from carafe.workers where :gone::boolean and stopped_at < now() - interval '1 day'
        and (exists (select from carafe.jobs j where j.worker = workers.id and j.state = 'running' offset 0)) is not true
)
select w.id, w.name, w.pid, w.incarnation, w.beat_at, w.state, p.name as pod, p.node,
    coalesce(p.confirmed_at > now() - interval '30 seconds', false) as watched,
    coalesce(p.ended and w.started_at < p.seen_at, false)
        or coalesce(d.its and p.death_seen_at > now() - interval '1 minute', false) as pod_over,
    case when d.its then p.death_reason end as death_reason, p.death_exit_code, p.death_signal, p.death_message,
    p.death_container, p.death_container_id, p.death_started_at, p.death_finished_at
from carafe.workers w
left join carafe.pods p on starts_with(w.incarnation, 'pod ') and p.uid = split_part(w.incarnation, ' ', 2)
left join lateral (
    select coalesce(p.death_finished_at + interval '1 second', p.death_seen_at) >= w.started_at as its
) as d on true
where w.state in ('running', 'draining')
    or (:gone::boolean and exists (select from carafe.jobs j where j.worker = w.id and j.state = 'running' offset 0))
