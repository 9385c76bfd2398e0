-- Stores what claims logged, one row a claim: `chunks` numbers the claim that a line belongs to, from 1. Writing the same lines
-- twice is harmless, readers take each once.
insert into carafe.job_logs (failed, job_id, fence, attempt, first, last, times, levels, texts)
select c.failed, c.id, c.fence, c.attempt, min(l.number), max(l.number), array_agg(l.at order by l.number),
    array_agg(l.level order by l.number), array_agg(l.text order by l.number)
from unnest(:ids::uuid[], :fences::bigint[], :attempts::integer[], :faileds::boolean[]) with ordinality
    as c(id, fence, attempt, failed, chunk)
join unnest(:chunks::integer[], :numbers::integer[], :times::timestamptz[], :levels::text[], :texts::text[])
    as l(chunk, number, at, level, text) on l.chunk = c.chunk
group by c.chunk, c.failed, c.id, c.fence, c.attempt
