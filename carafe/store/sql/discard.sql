-- Resolves dead jobs that nobody has resolved yet. Until their retention ends they can be found, but they no longer count as
-- dead. Rows are found only by their ids, as in claim.sql.
update carafe.jobs_ended j set resolved_at = now(), resolved_by = cast(:by as text), resolved_reason = cast(:reason as text)
where id = any(:ids::uuid[]) and state = 'dead' and coalesce(resolved_at, 'infinity') = 'infinity'
returning {ended}
