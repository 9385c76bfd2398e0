-- The number of jobs in each of these groups, counted from the newest job on and up to `limit`, with the newest and the
-- oldest of the counted jobs.
select g.kind, g.fingerprint, c.number, c.first_at, c.last_at, c.id
from unnest(:kinds::text[], :fingerprints::text[]) as g(kind, fingerprint)
cross join lateral (
    select count(*) as number, min(n.ended_at) as first_at, max(n.ended_at) as last_at,
        (array_agg(n.id order by n.ended_at desc, n.id desc))[1] as id
    from (
        select d.ended_at, d.id from carafe.jobs_dead d
        where d.resolved_at is null and d.kind = g.kind and d.error_fingerprint = g.fingerprint
        order by d.ended_at desc, d.id desc limit :limit
    ) as n
) as c
where c.number > 0
