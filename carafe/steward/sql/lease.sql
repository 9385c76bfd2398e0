-- Takes or renews a lease, by Postgres's time. Returns a row only to the process that holds the lease now.
insert into carafe.leases (name, holder, holder_name, incarnation, term, acquired_at, expires_at)
values (:name, :holder, :holder_name, :incarnation, 1, now(), now() + cast(:ttl as float8) * interval '1 second')
on conflict (name) do update
set holder = excluded.holder, holder_name = excluded.holder_name, incarnation = excluded.incarnation,
    term = case when leases.holder = excluded.holder then leases.term else leases.term + 1 end,
    acquired_at = case when leases.holder = excluded.holder then leases.acquired_at else now() end,
    expires_at = excluded.expires_at
where leases.holder = excluded.holder or leases.expires_at <= now()
returning term
