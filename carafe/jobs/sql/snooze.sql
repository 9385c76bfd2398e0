-- Puts running jobs back for later, each only under its own fence, without spending an attempt.
update carafe.jobs j
set state = 'scheduled', worker = null, started_at = null, deadline_at = null, snoozes = j.snoozes + 1,
    due_at = now() + g.delay * interval '1 second'
from unnest(:ids::uuid[], :fences::bigint[], :delays::float8[]) as g(id, fence, delay)
where j.id = g.id and j.fence = g.fence and j.state = 'running'
returning j.id, j.kind, j.state, j.attempt, j.max_attempts, cast(j.args as text) as args, null as result, null as error
