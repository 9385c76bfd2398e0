-- How many of one group follow on a death, up to `limit`, and the last of them.
select count(*) as number, max(ended_at) as at, (array_agg(id order by ended_at desc, id desc))[1] as id
from (
    select ended_at, id from carafe.jobs_dead
    where resolved_at is null and kind = :kind and error_fingerprint = :fingerprint
        and (ended_at, id) > (:at::timestamptz, :id::uuid)
    order by ended_at, id limit :limit
) as found
