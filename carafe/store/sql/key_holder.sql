-- The live job that holds a unique key.
select id, state from carafe.jobs where unique_key = :key
