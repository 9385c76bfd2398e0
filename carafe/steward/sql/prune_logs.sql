-- Deletes log lines of jobs that are older than their retention (in seconds) and in no day partition: a bounded batch for
-- each retention.
with dead as (
    delete from carafe.job_logs_dead_other where ctid = any (array(
        select ctid from carafe.job_logs_dead_other
        where written_at < now() - cast(:dead as float8) * interval '1 second'
        limit :limit for update skip locked))
    returning 1
),
done as (
    delete from carafe.job_logs_done_other where ctid = any (array(
        select ctid from carafe.job_logs_done_other
        where written_at < now() - cast(:succeeded as float8) * interval '1 second'
        limit :limit for update skip locked))
    returning 1
)
select (select count(*) from dead) + (select count(*) from done) as rows
