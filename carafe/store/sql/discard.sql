-- Resolves dead jobs that nobody has resolved: they stay findable until their retention, and count no more. Found by
-- their ids alone, as in claim.
update carafe.jobs_ended j set resolved_at = now(), resolved_by = cast(:by as text), resolved_reason = cast(:reason as text)
where id = any(:ids::uuid[]) and state = 'dead' and coalesce(resolved_at, 'infinity') = 'infinity'
returning {ended}
