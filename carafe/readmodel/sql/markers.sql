-- What people and releases did since a given time: pauses, bulk actions, and the first start of each new version.
(
    select at, action, actor, target, reason, details, null as version from (
        select at, action, actor, target, reason, details from carafe.audit
        where bulk is null and at >= :since::timestamptz order by at desc, id desc limit :limit
    ) as recent
    where action in ('pause', 'resume', 'pause kind', 'resume kind', 'bulk start')
)
union all
select started_at, 'deploy', '', '', null, '{}', version from (
    select version, min(started_at) as started_at, min(min(started_at)) over () as first from carafe.workers group by version
) as versions
where started_at > first and started_at >= :since::timestamptz
order by at
