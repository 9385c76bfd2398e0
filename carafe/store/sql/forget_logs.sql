-- Forgets stored lines of claims that later ones have pushed out (all that end before `below`), on the side of what has not
-- failed: a running job's. They were written after `since`, so that older days are not looked at.
delete from carafe.job_logs l
using unnest(:ids::uuid[], :fences::bigint[], :kept_from::integer[]) as g(id, fence, below)
where not l.failed and l.written_at >= cast(:since as timestamptz)
    and l.job_id = g.id and l.fence = g.fence and l.last < g.below
