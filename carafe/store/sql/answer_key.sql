-- Stores the answer for an idempotency key that this transaction has taken.
update carafe.idempotency_keys set response = cast(:response as jsonb)
where scope = cast(:scope as text) and key = cast(:key as text)
