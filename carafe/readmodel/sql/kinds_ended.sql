-- How many jobs of each kind ended in the last hour, and attempts failed that are retried, by outcome; in whole buckets of ten
-- minutes, of which the first may have begun earlier.
select kind, outcome, sum(count)::bigint as count, sum(run_seconds) as run_seconds
from carafe.statistics
where width = 600 and kind > ''
    and at >= date_bin(interval '10 minutes', now() - interval '1 hour', timestamptz '2000-01-01 00:00+00')
group by kind, outcome
