-- What people and releases did since a given time: pauses, bulk actions, and the first start of each new version. A pause or
-- resume that changed nothing is left out. With a `kind` (not ''), what was done to other kinds alone is left out too.
(
    select at, action, actor, target, reason, details, null as version from (
        select at, action, actor, target, reason, details from carafe.audit
        where bulk is null and at >= :since::timestamptz order by at desc, id desc limit :limit
    ) as recent
    where action in ('pause', 'resume', 'pause kind', 'resume kind', 'bulk start') and details ->> 'unchanged' is distinct from 'true'
        and (cast(:kind as text) = '' or case
            when action in ('pause kind', 'resume kind') then target = cast(:kind as text)
            when action = 'bulk start' then coalesce(details -> 'filter' ->> 'kind', cast(:kind as text)) = cast(:kind as text)
            else true end)
)
union all
select started_at, 'deploy', '', '', null, '{}', version from (
    select version, min(started_at) as started_at, min(min(started_at)) over () as first from carafe.workers group by version
) as versions
where started_at > first and started_at >= :since::timestamptz
order by at
