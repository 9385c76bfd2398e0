-- How many jobs the statistics have seen end, of a kind ('': all), by outcome, between two times. A dead job that was retried
-- since counts too.
select outcome, sum(count)::bigint as number
from carafe.statistics
where width = 600 and kind = :kind and at >= :since::timestamptz - interval '10 minutes' and at < :until::timestamptz
    and outcome in ('succeeded', 'dead', 'cancelled')
group by outcome
