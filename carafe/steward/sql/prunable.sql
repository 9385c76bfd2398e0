-- The number of rows, by table, that would be deleted in addition to whole partitions. Retentions are in seconds.
select 'jobs_dead_other' as name, count(*) as rows from carafe.jobs_dead_other
where ended_at < now() - cast(:dead as float8) * interval '1 second'
union all
select 'jobs_done_other', count(*) from carafe.jobs_done_other
where ended_at < now() - cast(:succeeded as float8) * interval '1 second'
union all
select 'job_logs', count(*) from carafe.job_logs_dead_other
where written_at < now() - cast(:dead as float8) * interval '1 second'
union all
select 'job_logs', count(*) from carafe.job_logs_done_other
where written_at < now() - cast(:succeeded as float8) * interval '1 second'
union all
select 'idempotency_keys', count(*) from carafe.idempotency_keys where expires_at <= now()
union all
select 'audit', count(*) from carafe.audit where at < now() - cast(:dead as float8) * interval '1 second'
union all
select 'audit', count(*) from carafe.bulk_actions
where created_at < now() - cast(:dead as float8) * interval '1 second'
    and ended_at < now() - cast(:dead as float8) * interval '1 second'
union all
select 'gauges', count(*) from carafe.gauges where at < now() - cast(:gauges as float8) * interval '1 second'
union all
select 'statistics', count(*) from carafe.statistics s
join unnest(cast(:widths as integer[]), cast(:keeps as float8[])) as k(width, keep) on k.width = s.width
where s.at < now() - k.keep * interval '1 second'
