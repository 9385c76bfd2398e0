-- Brings dead jobs back as queued with more attempts: what `grants` (a JSON object) says for the kind, else `grant_attempts`;
-- attempt and fence never fall. Those of a paused queue come back without `hinted_at`: they get no hint.
with back as (
    delete from carafe.jobs_ended where id = any(:ids::uuid[]) and state = 'dead' returning *
)
insert into carafe.jobs (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, unique_key, created_at, due_at, hinted_at, trace, created_by)
select id, kind, queue, 'queued', args, secrets, version, attempt,
    greatest(max_attempts, attempt + coalesce(cast(cast(:grants as jsonb) ->> kind as integer), :grant_attempts::integer)),
    fence, snoozes, 0, timeout, unique_key, created_at, now(), clock_timestamp(), trace, created_by
from back
order by unique_key nulls last, id
returning id, kind, state, attempt, max_attempts, cast(args as text) as args, null as result, null as error,
    case when queue <> all (array(select name from carafe.queues where paused_at is not null)) then hinted_at end as hinted_at
