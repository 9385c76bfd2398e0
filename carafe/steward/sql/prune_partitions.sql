-- The day partitions, of ended jobs and of jobs' log lines, whose whole day is older than its retention (in seconds), oldest
-- first, with an estimate of their rows. They are recognised by the names that `carafe.ensure_partitions` gives them.
select name, dead, logs, begins, ends, rows, bytes
from (
    select cast(c.relname as text) as name, p.relname in ('jobs_dead', 'job_logs_dead') as dead,
        p.relname in ('job_logs_dead', 'job_logs_done') as logs,
        cast(d.day as timestamp) at time zone 'UTC' as begins, cast(d.day + 1 as timestamp) at time zone 'UTC' as ends,
        cast(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid)) as bigint) as rows, pg_total_relation_size(c.oid) as bytes
    from pg_inherits i
    join pg_class p on p.oid = i.inhparent
    join pg_class c on c.oid = i.inhrelid
    cross join lateral (
        select case when c.relname ~ '^(jobs|job_logs)_(dead|done)_[0-9]{8}$' then to_date(right(c.relname, 8), 'YYYYMMDD') end
            as day
    ) as d
    where i.inhparent in (cast('carafe.jobs_dead' as regclass), cast('carafe.jobs_done' as regclass),
        cast('carafe.job_logs_dead' as regclass), cast('carafe.job_logs_done' as regclass))
) as partitions
where ends <= now() - case when dead then cast(:dead as float8) else cast(:succeeded as float8) end * interval '1 second'
order by ends, name
