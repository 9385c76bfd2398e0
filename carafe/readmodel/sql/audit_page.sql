-- Actions before a position, newest first: those on one target, or else all that are not part of a bulk action. If more than
-- a hundred jobs were selected, the details have their number and not their ids.
select id, at, actor, via, action, target, reason, bulk,
    case when length(details::text) <= 5000 then details
        when jsonb_typeof(details #> '{filter,ids}') = 'array'
        then jsonb_set(details, '{filter,ids}', to_jsonb(jsonb_array_length(details #> '{filter,ids}') || ' jobs'))
        else jsonb_build_object('left out', length(details::text) || ' characters') end as details
from (
    (
        select * from carafe.audit
        where :target::text is null and bulk is null and (at, id) < (:at::timestamptz, :id::uuid)
        order by at desc, id desc limit :limit
    )
    union all
    (
        select * from carafe.audit
        where target = :target::text and (at, id) < (:at::timestamptz, :id::uuid)
        order by at desc, id desc limit :limit
    )
    order by at desc, id desc limit :limit
) as found
order by at desc, id desc
