-- The kinds that are known: from workers, from the statistics (one step in the index for each kind), from the newest live jobs.
with recursive counted as (
    (select kind from carafe.statistics where width = 600 and kind > '' order by width, kind, at limit 1)
    union all
    select n.kind from counted c
    cross join lateral (
        select kind from carafe.statistics where width = 600 and kind > c.kind order by width, kind, at limit 1
    ) as n
)
select kind from counted
union
select unnest(kinds) from carafe.workers
union
select kind from (select kind from carafe.jobs order by id desc limit :limit) as newest
order by kind
