-- The groups of the deaths since a time, and how many deaths these are, among the newest `limit`.
select kind, error_fingerprint as fingerprint, count(*) as number
from (
    select kind, error_fingerprint from carafe.jobs_dead
    where resolved_at is null and ended_at > :since::timestamptz
    order by ended_at desc, id desc limit :limit
) as recent
where error_fingerprint is not null
group by 1, 2
