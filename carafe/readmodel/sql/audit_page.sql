-- Actions before a position, newest first: those on one target, or else all but those that are part of a bulk action.
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
