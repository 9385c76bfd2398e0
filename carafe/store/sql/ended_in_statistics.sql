-- The number of jobs, by outcome, that ended between two times according to the statistics, for one kind ('' means all
-- kinds). If the first time is null, it is as far back as such jobs are kept, since earlier ones are pruned; if the second
-- is null, it is now. A dead job that was retried since then still counts.
select s.outcome, sum(s.count)::bigint as number
from (
    select 'dead' as outcome, (select ended_at from carafe.jobs_dead order by ended_at, id limit 1) as oldest
    union all
    select unnest(array['succeeded', 'cancelled']), (select ended_at from carafe.jobs_done order by ended_at, id limit 1)
) as kept
join carafe.statistics s on s.outcome = kept.outcome
    and s.at >= greatest(:since::timestamptz, kept.oldest) - interval '10 minutes'
where s.width = 600 and s.kind = :kind and s.at < coalesce(:until::timestamptz, now()) and kept.outcome = any(:outcomes::text[])
    and kept.oldest is not null
group by s.outcome
