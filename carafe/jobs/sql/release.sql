-- Hands running jobs of this worker back as queued, each only under its own fence (null: whatever it is, for a claim whose
-- reply was lost), without spending an attempt; one that somebody wants cancelled ends so instead. `counts` says whether it
-- counts as a free release (drain) or not (claimed and never started). Those of a paused queue come back without `hinted_at`.
-- Rows are found as in finish; `told` holds what was given, by id and fence.
with told as materialized (
    select jsonb_object_agg(concat(id, ' ', fence), jsonb_build_array(traced)) as words
    from unnest(:ids::uuid[], :fences::bigint[], :traces::text[]) as g(id, fence, traced)
),
released as (
    update carafe.jobs j
    set state = 'queued', worker = null, started_at = null, deadline_at = null, hinted_at = clock_timestamp(),
        releases = j.releases + case when :counts then 1 else 0 end,
        trace = coalesce((select words from told) -> (j.id || ' ' || j.fence) ->> 0, j.trace)
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.worker = :worker
        and coalesce((select words from told) -> (j.id || ' ' || j.fence), (select words from told) -> (j.id || ' ')) is not null
        and j.cancel_requested_at is null
    returning j.id, j.kind, j.state, j.attempt, j.max_attempts, cast(j.args as text) as args,
        case when j.queue <> all (array(select name from carafe.queues where paused_at is not null)) then j.hinted_at end
            as hinted_at
),
cancelled as (
    delete from carafe.jobs j
    where j.id = any(:ids::uuid[]) and j.state || '' = 'running' and j.worker = :worker
        and coalesce((select words from told) -> (j.id || ' ' || j.fence), (select words from told) -> (j.id || ' ')) is not null
        and j.cancel_requested_at is not null
    returning j.*
),
moved as (
    insert into carafe.jobs_ended (id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, ended_at, error)
    select id, kind, queue, 'cancelled', args, secrets, version, attempt, max_attempts, fence, snoozes,
        releases, timeout, unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note,
        cancel_requested_at, now(), 'cancelled by an operator'
    from cancelled
),
counted as (
    insert into carafe.statistics_deltas (kind, outcome, wait_bucket, run_bucket, count, wait_seconds, run_seconds)
    select kind, 'cancelled', 0, 0, count(*), 0, 0 from cancelled group by kind
)
select id, kind, state, attempt, max_attempts, args, hinted_at, null as result, null as error from released
union all
select id, kind, 'cancelled', attempt, max_attempts, cast(args as text), null, null, 'cancelled by an operator'
from cancelled
