-- Takes queued rows for one worker and raises their fences, so that a previous holder can no longer write anything. A hint
-- is only a hint: jobs that are not queued (ended, running elsewhere), are paused (their queue or kind) or are not for this
-- worker are not taken.
-- Rows are found by their ids, only through the primary key (see docs/plans.md): no other index serves a condition here.
update carafe.jobs
set state = 'running', fence = fence + 1, worker = :worker, started_at = now(),
    deadline_at = now() + least(timeout, 316224000) * interval '1 second', progress = null, progress_note = null
where id = any(:ids::uuid[])
    and state || '' = 'queued'
    and kind = any(:kinds::text[])
    and {unpaused}
returning id, kind, cast(args as text) as args, version, fence, attempt, max_attempts, timeout, due_at, started_at,
    deadline_at, trace, suspect, releases
