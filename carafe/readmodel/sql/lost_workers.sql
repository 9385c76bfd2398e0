-- Workers that were lost in the last ten minutes.
select count(*) as number, min(stopped_at) as since,
    -- All workers of one host have one name.
    (array_agg(name || ' (pid ' || pid || ')' order by stopped_at desc))[1] as name
from carafe.workers where state = 'lost' and stopped_at > now() - interval '10 minutes'
