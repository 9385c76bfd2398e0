-- Deletes audit rows older than `keep` seconds, and bulk actions that ended before that: a bounded batch of each.
with rows as (
    delete from carafe.audit where ctid = any (array(
        select ctid from carafe.audit where at < now() - cast(:keep as float8) * interval '1 second'
        order by at, id limit :limit for update skip locked))
    returning id
),
actions as (
    delete from carafe.bulk_actions where ctid = any (array(
        select ctid from carafe.bulk_actions
        where created_at < now() - cast(:keep as float8) * interval '1 second'
            and ended_at < now() - cast(:keep as float8) * interval '1 second'
        order by created_at, id limit :limit for update skip locked))
    returning id
)
select (select count(*) from rows) + (select count(*) from actions) as rows
