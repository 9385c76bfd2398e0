-- Hands running jobs back as queued, each only under its own fence, without spending an attempt. `counts` says whether it
-- counts as a free release (drain) or not (claimed and never started). Those of a paused queue come back without `hinted_at`.
update carafe.jobs j
set state = 'queued', worker = null, started_at = null, deadline_at = null, hinted_at = clock_timestamp(),
    releases = j.releases + case when :counts then 1 else 0 end
from unnest(:ids::uuid[], :fences::bigint[]) as g(id, fence)
where j.id = g.id and j.fence = g.fence and j.state = 'running'
returning j.id, j.kind, j.state, j.attempt, j.max_attempts, cast(j.args as text) as args, null as result, null as error,
    case when j.queue <> all (array(select name from carafe.queues where paused_at is not null)) then j.hinted_at end as hinted_at
