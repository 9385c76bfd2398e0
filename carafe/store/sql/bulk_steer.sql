-- Pauses, resumes or cancels a bulk action between two of its batches. Returns no row if the bulk action does not exist or
-- has ended.
update carafe.bulk_actions
set state = cast(:state as text), updated_at = now(), next_at = greatest(next_at, now()),
    ended_at = case when cast(:state as text) = 'cancelled' then now() end
where id = :id and state in ('running', 'paused')
returning *
