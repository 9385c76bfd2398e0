-- Numbers of ended jobs of all kinds in the whole 10 s buckets of the last minute. The newest bucket may still grow.
select outcome, count, waits, runs from carafe.statistics
where width = 10 and kind = ''
    and at < date_bin(interval '10 seconds', now() - interval '3 seconds', timestamptz '2000-01-01 00:00+00')
    and at >= date_bin(interval '10 seconds', now() - interval '3 seconds', timestamptz '2000-01-01 00:00+00')
        - interval '1 minute'
