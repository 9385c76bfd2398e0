-- Deletes idempotency keys that have expired, a bounded batch.
with gone as (
    delete from carafe.idempotency_keys where ctid = any (array(
        select ctid from carafe.idempotency_keys where expires_at <= now()
        order by expires_at limit :limit for update skip locked))
    returning key
)
select count(*) as rows from gone
