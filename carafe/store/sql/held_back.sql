-- What may hold back vacuum, the oldest snapshot first (`age`, in transactions). It returns one session and one prepared
-- transaction with a transaction open for over `seconds`, the oldest of each (a dump is such a session), and every standby
-- and replication slot with a snapshot; `still` is the same as long as the snapshot is the same. `seconds` is null where
-- Postgres does not know the time. There is at least one row; its `what` is null if nothing holds back vacuum. `dead_rows`
-- is the number of rows of carafe.jobs that wait for a vacuum, as Postgres counts them; `unseen` is the number of sessions
-- that this user may not see.
select pg_stat_get_dead_tuples('carafe.jobs'::regclass) as dead_rows,
    (select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and usename is not null and state is null and backend_type is null) as unseen,
    h.what, h.name, h.pid, h.state, h.seconds, h.still
from (values (1)) as one
left join lateral (
    (
        select 'session' as what, coalesce(nullif(application_name, ''), usename) as name, pid, state, a.seconds,
            cast(null as text) as still, greatest(age(backend_xmin), age(backend_xid)) as age
        from pg_stat_activity
        cross join lateral (select cast(extract(epoch from clock_timestamp() - xact_start) as float8) as seconds) as a
        where datname = current_database() and pid <> pg_backend_pid() and a.seconds > cast(:seconds as float8)
            and (backend_xmin is not null or backend_xid is not null) and backend_type = 'client backend'
        order by age desc, a.seconds desc limit 1
    )
    union all
    (
        select 'prepared transaction', gid, null, null, a.seconds, null, age(transaction)
        from pg_prepared_xacts
        cross join lateral (select cast(extract(epoch from clock_timestamp() - prepared) as float8) as seconds) as a
        where database = current_database() and a.seconds > cast(:seconds as float8)
        order by age(transaction) desc limit 1
    )
    union all
    (
        -- `inactive_since` is known to PostgreSQL 17 and later.
        select 'replication slot', slot_name, active_pid, case when active then 'active' else 'inactive' end,
            cast(extract(epoch from clock_timestamp() - cast(to_jsonb(s) ->> 'inactive_since' as timestamptz)) as float8),
            slot_name || ' ' || xmin, age(xmin)
        from pg_replication_slots s where xmin is not null
        order by age(xmin) desc limit 100
    )
    union all
    (
        select 'standby', coalesce(nullif(application_name, ''), usename), pid, state, null, pid || ' ' || backend_xmin,
            age(backend_xmin)
        from pg_stat_replication where backend_xmin is not null
        order by age(backend_xmin) desc limit 100
    )
) as h on true
order by h.age desc nulls last, h.seconds desc nulls last
