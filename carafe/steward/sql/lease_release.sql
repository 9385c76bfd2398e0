-- Gives a lease up at once, so that no other process need wait for its expiry. The lease keeps its term number.
update carafe.leases set expires_at = now() where name = :name and holder = :holder
