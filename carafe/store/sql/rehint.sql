-- Queued jobs that have no stamp although their kind is not paused (it was), a bounded batch of one such kind: they are
-- stamped for new hints. The kinds are found by steps in the index `jobs_held`, however many jobs wait for each. Those of a
-- paused queue come back without `hinted_at`. Found and changed as in promote. (With `kind = …` the order would be that of
-- the ids alone, and the primary key would serve it: see docs/plans.md.)
with recursive held as (
    (select kind from carafe.jobs where state = 'queued' and hinted_at is null order by kind, id limit 1)
    union all
    select n.kind
    from held h
    cross join lateral (
        select j.kind from carafe.jobs j where j.state = 'queued' and j.hinted_at is null and j.kind > h.kind
        order by j.kind, j.id limit 1
    ) as n
),
resumed as (
    select kind from held where kind <> all (array(select kind from carafe.paused_kinds)) limit 1
),
waiting as (
    select id from carafe.jobs
    where state = 'queued' and hinted_at is null and kind between (select kind from resumed) and (select kind from resumed)
    order by kind, id limit :limit for update skip locked
)
update carafe.jobs j set hinted_at = clock_timestamp() where j.id = any(array(select id from waiting))
returning j.id, j.kind, case when {unpaused} then j.hinted_at end as hinted_at
