-- The oldest job that is kept of each side: what ended before it is pruned.
select
    (select ended_at from carafe.jobs_dead order by ended_at, id limit 1) as dead,
    (select ended_at from carafe.jobs_done order by ended_at, id limit 1) as done,
    now() as now
