-- Deletes the rows of pods that have been gone for `keep` seconds, in a bounded batch. This includes pods of a cluster that
-- no process watches any more.
with gone as (
    delete from carafe.pods where uid = any (array(
        select uid from carafe.pods
        where gone_at < now() - cast(:keep as float8) * interval '1 second'
            or confirmed_at < now() - cast(:keep as float8) * interval '1 second'
        limit :limit for update skip locked))
    returning uid
)
select count(*) as rows from gone
