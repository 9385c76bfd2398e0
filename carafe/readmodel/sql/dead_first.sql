-- The first death in each of these groups.
select g.kind, g.fingerprint, o.ended_at as first_at
from unnest(:kinds::text[], :fingerprints::text[]) as g(kind, fingerprint)
cross join lateral (
    select d.ended_at from carafe.jobs_dead d
    where d.resolved_at is null and d.kind = g.kind and d.error_fingerprint = g.fingerprint
    order by d.ended_at, d.id limit 1
) as o
