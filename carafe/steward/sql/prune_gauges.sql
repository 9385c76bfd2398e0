-- Deletes samples older than `keep` seconds, a bounded batch.
with gone as (
    delete from carafe.gauges where ctid = any (array(
        select ctid from carafe.gauges where at < now() - cast(:keep as float8) * interval '1 second'
        order by at limit :limit for update skip locked))
    returning at
)
select count(*) as rows from gone
