-- Counts by group the next `limit` dead jobs after a given one, in the order of the groups. Also returns the last job of
-- each group.
select kind, error_fingerprint as fingerprint, count(*) as number, min(ended_at) as first_at, max(ended_at) as last_at,
    (array_agg(id order by ended_at, id))[count(*)::integer] as id
from (
    select kind, error_fingerprint, ended_at, id from carafe.jobs_dead
    where resolved_at is null and error_fingerprint is not null
        and (kind, error_fingerprint, ended_at, id) > (:kind, :fingerprint, :at::timestamptz, :id::uuid)
    order by kind, error_fingerprint, ended_at, id limit :limit
) as following
group by kind, error_fingerprint
order by kind, error_fingerprint
