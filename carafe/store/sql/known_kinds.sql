-- The kinds for which some live worker has a handler.
select distinct unnest(kinds) as kind from carafe.workers
where state in ('running', 'draining') and beat_at > now() - interval '20 seconds'
