-- Where these jobs stand now.
select id, state from carafe.jobs where id = any(:ids::uuid[])
union all
select id, state from carafe.jobs_ended where id = any(:ids::uuid[])
