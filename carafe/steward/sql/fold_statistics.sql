-- Adds a batch of statistics deltas to the buckets of 10 s, 1 min and 10 min, by kind and for all kinds (kind ''), and
-- deletes these deltas. This is one statement, so that each delta counts exactly once. `buckets` is the number of buckets of
-- a histogram.
with taken as (
    delete from carafe.statistics_deltas where ctid = any (array(
        select ctid from carafe.statistics_deltas order by at limit :limit for update skip locked))
    returning at, kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds
),
cells as (
    select w.width, date_bin(w.width * interval '1 second', t.at, timestamptz '2000-01-01 00:00+00') as at, k.kind, t.outcome,
        t.wait_bucket, t.run_bucket, sum(t.count) as count, sum(t.wait_seconds) as wait_seconds,
        sum(t.run_seconds) as run_seconds
    from taken t
    cross join unnest(array[10, 60, 600]) as w(width)
    cross join lateral (values (t.kind), ('')) as k(kind)
    group by 1, 2, 3, 4, 5, 6
),
bars as (
    select width, at, kind, outcome, b.bucket,
        cast(coalesce(sum(count) filter (where wait_bucket = b.bucket), 0) as bigint) as waits,
        cast(coalesce(sum(count) filter (where run_bucket = b.bucket), 0) as bigint) as runs,
        coalesce(sum(wait_seconds) filter (where wait_bucket = b.bucket), 0) as wait_seconds,
        coalesce(sum(run_seconds) filter (where run_bucket = b.bucket), 0) as run_seconds
    from cells cross join generate_series(0, cast(:buckets as integer) - 1) as b(bucket)
    group by 1, 2, 3, 4, 5
),
folded as (
    insert into carafe.statistics as s (width, at, kind, outcome, count, wait_seconds, run_seconds, waits, runs)
    select width, at, kind, outcome, sum(waits), sum(wait_seconds), sum(run_seconds),
        array_agg(waits order by bucket), array_agg(runs order by bucket)
    from bars group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (width, at, kind, outcome) do update
    set count = s.count + excluded.count,
        wait_seconds = s.wait_seconds + excluded.wait_seconds,
        run_seconds = s.run_seconds + excluded.run_seconds,
        waits = array(select a + b from unnest(s.waits, excluded.waits) with ordinality as u(a, b, n) order by n),
        runs = array(select a + b from unnest(s.runs, excluded.runs) with ordinality as u(a, b, n) order by n)
)
select count(*) as rows from taken
