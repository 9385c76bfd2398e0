-- Numbers of ended jobs by step and outcome, for one kind ('' means all kinds). The histograms of a step's buckets are added
-- up; empty bars are left out.
select floor(extract(epoch from s.at - :since::timestamptz) / :step::float8)::integer as bucket, s.outcome,
    b.number::integer - 1 as number, sum(b.waits)::bigint as waits, sum(b.runs)::bigint as runs
from carafe.statistics s
cross join lateral unnest(s.waits, s.runs) with ordinality as b(waits, runs, number)
where s.width = :width::integer and s.kind = :kind and s.at >= :since::timestamptz and s.at < :until::timestamptz
    and (b.waits <> 0 or b.runs <> 0)
group by 1, 2, 3
