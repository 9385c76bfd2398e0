-- Queues dead jobs again with more attempts: as many as `grants` (a JSON object) has for the kind, or else `grant_attempts`.
-- Attempt and fence never fall. Jobs of a paused queue or kind come back without `hinted_at`: they get no hint.
with back as (
    delete from carafe.jobs_ended where id = any(:ids::uuid[]) and state = 'dead' returning *
)
insert into carafe.jobs as j ({kept}, state, attempt, max_attempts, releases, due_at, hinted_at, trace)
select {kept}, 'queued', attempt,
    greatest(max_attempts, attempt + coalesce(cast(cast(:grants as jsonb) ->> kind as integer), :grant_attempts::integer)),
    0, now(), clock_timestamp(), trace
from back
order by unique_key nulls last, id
returning {live},
    case when {unpaused} then hinted_at end as hinted_at
