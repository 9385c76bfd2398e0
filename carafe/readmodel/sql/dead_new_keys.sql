-- The groups of the deaths since a time, how many deaths these are among the newest `limit`, and the newest of each.
select kind, error_fingerprint as fingerprint, count(*) as number, max(ended_at) as last_at,
    (array_agg(id order by ended_at desc, id desc))[1] as id
from (
    select kind, error_fingerprint, ended_at, id from carafe.jobs_dead
    where resolved_at is null and ended_at > :since::timestamptz
    order by ended_at desc, id desc limit :limit
) as recent
where error_fingerprint is not null
group by 1, 2
