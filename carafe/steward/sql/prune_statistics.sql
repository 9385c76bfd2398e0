-- Deletes the buckets of one width older than `keep` seconds, a bounded batch.
with gone as (
    delete from carafe.statistics where ctid = any (array(
        select ctid from carafe.statistics
        where width = cast(:width as integer) and at < now() - cast(:keep as float8) * interval '1 second'
        order by at limit :limit for update skip locked))
    returning at
)
select count(*) as rows from gone
