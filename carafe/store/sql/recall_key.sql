-- What an idempotency key was used for, and the ids that were answered.
select request_hash, cast(response as text) as response from carafe.idempotency_keys
where scope = cast(:scope as text) and key = cast(:key as text)
