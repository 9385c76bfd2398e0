-- The number of unresolved dead jobs in the last sample.
select sum(dead)::bigint as number from carafe.gauges
where at = (select max(at) from carafe.gauges where at > now() - interval '1 minute')
