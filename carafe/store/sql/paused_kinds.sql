-- The kinds that are paused, and how many jobs wait for each, counted up to `limit` along the index of such jobs (see
-- rehint).
select p.kind, p.paused_at, p.paused_by, p.paused_reason, h.held
from carafe.paused_kinds p
cross join lateral (
    select count(*) as held from (
        select from carafe.jobs j
        where j.state = 'queued' and j.hinted_at is null and j.kind between p.kind and p.kind
        order by j.kind, j.id limit :limit
    ) as first
) as h
order by p.kind
