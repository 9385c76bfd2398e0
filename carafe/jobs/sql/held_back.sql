-- What has held back vacuum longest, above `seconds`: a session with a transaction left open (a dump is one), a prepared
-- transaction, or a replication slot (of which no age is known: `seconds` is null). Always one row: `dead_rows` are those of
-- carafe.jobs that wait for a vacuum, as Postgres counts them; `unseen` sessions are hidden from this user.
select pg_stat_get_dead_tuples('carafe.jobs'::regclass) as dead_rows,
    (select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and usename is not null and state is null and backend_type is null) as unseen,
    h.what, h.name, h.pid, h.state, h.seconds
from (values (1)) as one
left join lateral (
    select * from (
        select 'session' as what, coalesce(nullif(application_name, ''), usename) as name, pid, state,
            cast(extract(epoch from clock_timestamp() - xact_start) as float8) as seconds
        from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
            and (backend_xmin is not null or backend_xid is not null) and backend_type = 'client backend'
        union all
        select 'prepared transaction', gid, null, null, cast(extract(epoch from clock_timestamp() - prepared) as float8)
        from pg_prepared_xacts where database = current_database()
        union all
        select 'replication slot', slot_name, active_pid, case when active then 'active' else 'inactive' end, null
        from pg_replication_slots where xmin is not null
    ) as holders
    where seconds > cast(:seconds as float8) or (seconds is null and what = 'replication slot' and state = 'inactive')
    order by seconds desc nulls last limit 1
) as h on true
