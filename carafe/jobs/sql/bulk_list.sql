-- The newest bulk actions.
select * from carafe.bulk_actions order by created_at desc, id desc limit :limit
