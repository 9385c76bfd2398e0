-- Hands running jobs back as queued, each only under its own fence, without spending an attempt. `counts` says whether it
-- counts as a free release (drain) or not (claimed and never started).
update carafe.jobs j
set state = 'queued', worker = null, started_at = null, deadline_at = null, hinted_at = clock_timestamp(),
    releases = j.releases + case when :counts then 1 else 0 end
from unnest(:ids::uuid[], :fences::bigint[]) as g(id, fence)
where j.id = g.id and j.fence = g.fence and j.state = 'running'
returning j.id, j.kind, j.state, j.hinted_at, j.attempt, j.max_attempts, cast(j.args as text) as args, null as result, null as error
