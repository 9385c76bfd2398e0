-- Who holds a lease, and in which process.
select holder, incarnation from carafe.leases where name = :name
