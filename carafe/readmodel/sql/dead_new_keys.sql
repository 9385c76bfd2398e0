-- The groups that have deaths since a given time, among the newest `limit` deaths; for each group, the number of these
-- deaths and the newest of them.
select kind, error_fingerprint as fingerprint, count(*) as number, max(ended_at) as last_at,
    (array_agg(id order by ended_at desc, id desc))[1] as id
from (
    select kind, error_fingerprint, ended_at, id from carafe.jobs_dead
    where resolved_at is null and ended_at > :since::timestamptz
    order by ended_at desc, id desc limit :limit
) as recent
where error_fingerprint is not null
group by 1, 2
