-- Brings dead jobs back as queued with `grant_attempts` more attempts; attempt and fence never fall.
with back as (
    delete from carafe.jobs_ended where id = any(:ids::uuid[]) and state = 'dead' returning *
)
insert into carafe.jobs (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, unique_key, created_at, due_at, hinted_at, trace, created_by)
select id, kind, queue, 'queued', args, secrets, version, attempt,
    greatest(max_attempts, attempt + :grant_attempts::integer), fence, snoozes, releases, timeout, unique_key, created_at,
    now(), clock_timestamp(), trace, created_by
from back
order by unique_key nulls last, id
returning id, kind, state, attempt, max_attempts, cast(args as text) as args, hinted_at, null as result, null as error
