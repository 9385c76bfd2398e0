-- Takes an idempotency key for this transaction. Waits for another transaction that is taking the same key. Returns no row
-- if the key was taken before.
insert into carafe.idempotency_keys (scope, key, request_hash, expires_at)
values (cast(:scope as text), cast(:key as text), cast(:request_hash as text),
    now() + cast(:ttl as double precision) * interval '1 second')
on conflict (scope, key) do update
set request_hash = excluded.request_hash, response = null, created_at = now(), expires_at = excluded.expires_at
where carafe.idempotency_keys.expires_at <= now()
returning key
