-- One job, live or ended, with its worker's name and whether that is alive.
select j.*, w.name as worker_name, coalesce(w.state in ('running', 'draining'), false) as worker_alive, now() as now
from (
    select id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes, releases, timeout,
        unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note, cancel_requested_at,
        deadline_at, hinted_at, deferrals, suspect, null::timestamptz as ended_at, null::jsonb as result,
        null as error_class, null as error, null as error_fingerprint, null::timestamptz as resolved_at,
        null as resolved_by, null as resolved_reason
    from carafe.jobs where id = :id
    union all
    select id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes, releases, timeout,
        unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note, cancel_requested_at,
        null, null, 0, false, ended_at, result, error_class, error, error_fingerprint, resolved_at, resolved_by,
        resolved_reason
    from carafe.jobs_ended where id = :id
) as j
left join carafe.workers w on w.id = j.worker
limit 1
