-- What ended of one kind in the last hour by outcome, with its histograms, in buckets as in kinds_ended.
select outcome, count, waits, runs
from carafe.statistics
where width = 600 and kind = :kind
    and at >= date_bin(interval '10 minutes', now() - interval '1 hour', timestamptz '2000-01-01 00:00+00')
