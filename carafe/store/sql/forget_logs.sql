-- Deletes stored chunks of log lines of running jobs if newer lines of the same claim have replaced them: all lines of the
-- chunk come before the line `below`. The chunks were written after `since`, so partitions of earlier days are not searched.
delete from carafe.job_logs l
using unnest(:ids::uuid[], :fences::bigint[], :kept_from::integer[]) as g(id, fence, below)
where not l.failed and l.written_at >= cast(:since as timestamptz)
    and l.job_id = g.id and l.fence = g.fence and l.last < g.below
