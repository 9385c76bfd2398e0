-- The live workers of a release that does not know pauses of kinds: such a worker registers kinds, but no versions of their
-- arguments (migration 0007). At most `limit`, the newest first.
select name, version, kinds from carafe.workers
where state in ('running', 'draining') and beat_at > now() - interval '20 seconds' and cardinality(versions) < cardinality(kinds)
order by started_at desc, id limit :limit
