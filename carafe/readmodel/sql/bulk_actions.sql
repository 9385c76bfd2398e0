-- Bulk actions: those under way first, then the newest.
select * from (
    (select * from carafe.bulk_actions where ended_at is null order by created_at desc, id desc limit :limit)
    union
    (select * from carafe.bulk_actions order by created_at desc, id desc limit :limit)
) as found
order by ended_at is not null, created_at desc, id desc limit :limit
