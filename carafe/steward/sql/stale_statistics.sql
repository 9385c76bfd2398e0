-- Whether carafe.jobs should be analyzed, because the planner's number of its rows and the last sample (at most two minutes
-- old) differ by a factor. Not if it was analyzed in the last `seconds`. `allowed` says whether this user may do that.
select s.jobs, c.reltuples::float8 as believed,
    pg_has_role(c.relowner, 'usage') or case when current_setting('server_version_num')::integer >= 170000
        then has_table_privilege(c.oid, 'maintain') else false end as allowed
from pg_class c
cross join (
    select sum(queued + running + scheduled + retrying)::float8 as jobs from carafe.gauges
    where at = (select max(at) from carafe.gauges where at > now() - interval '2 minutes')
) as s
where c.oid = 'carafe.jobs'::regclass and s.jobs is not null
    and greatest(s.jobs, c.reltuples, :least::float8)
        >= :factor::float8 * greatest(least(s.jobs, c.reltuples), :least::float8)
    and coalesce(greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid))
        < now() - cast(:seconds as float8) * interval '1 second', true)
