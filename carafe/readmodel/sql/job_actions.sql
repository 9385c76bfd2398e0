-- The newest `limit` actions of people on a job, oldest first.
select * from (
    select id, at, actor, via, action, target, reason, details, bulk from carafe.audit
    where target = :target order by at desc, id desc limit :limit
) as newest
order by at, id
