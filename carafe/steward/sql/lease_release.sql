-- Gives a lease up at once, so that another need not wait for its expiry. Its term goes on.
update carafe.leases set expires_at = now() where name = :name and holder = :holder
