-- The request for which an idempotency key was used, and the ids of its answer.
select request_hash, cast(response as text) as response from carafe.idempotency_keys
where scope = cast(:scope as text) and key = cast(:key as text)
