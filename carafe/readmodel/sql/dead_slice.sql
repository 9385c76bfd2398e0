-- How many there are of each group among the `limit` dead that follow on one, in the order of the groups; and the last of each.
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
