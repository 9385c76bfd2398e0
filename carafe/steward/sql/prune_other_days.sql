-- Deletes ended jobs that are older than their retention (in seconds) and in no day partition, with their failed attempts: a
-- bounded batch for each retention.
with dead as (
    delete from carafe.jobs_dead_other where ctid = any (array(
        select ctid from carafe.jobs_dead_other
        where ended_at < now() - cast(:dead as float8) * interval '1 second'
        order by ended_at limit :limit for update skip locked))
    returning id
),
done as (
    delete from carafe.jobs_done_other where ctid = any (array(
        select ctid from carafe.jobs_done_other
        where ended_at < now() - cast(:succeeded as float8) * interval '1 second'
        order by ended_at limit :limit for update skip locked))
    returning id
),
forgotten as (
    delete from carafe.attempts where job_id in (select id from dead union all select id from done)
)
select (select count(*) from dead) + (select count(*) from done) as rows
