-- A worker that knows these kinds has come: what waited for one is due for a hint now.
update carafe.jobs set hinted_at = clock_timestamp() - interval '10 seconds', deferrals = 0
where state = 'queued' and hinted_at > now() and kind = any(:kinds::text[])
