-- Drops a day partition of ended jobs. False when somebody uses it at this moment: nobody waits behind us for long.
select carafe.drop_partition(cast(:name as text))
