-- Unresolved dead jobs, as the last sample counted them.
select sum(dead)::bigint as number from carafe.gauges
where at = (select max(at) from carafe.gauges where at > now() - interval '1 minute')
