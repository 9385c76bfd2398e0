-- Gives a lease up at once, so that another need not wait for its expiry.
delete from carafe.leases where name = :name and holder = :holder
