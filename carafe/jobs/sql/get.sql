-- One job, live or ended; JSON as text, which a connection of SQLAlchemy's gives as it is too.
select id, kind, queue, state, cast(args as text) as args, secrets, version, attempt, max_attempts, fence, snoozes, releases, timeout,
    unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note, cancel_requested_at,
    deadline_at, null::timestamptz as ended_at, cast(null as text) as result, null as error_class, null as error,
    null::timestamptz as resolved_at, null as resolved_by, null as resolved_reason
from carafe.jobs where id = :id
union all
select id, kind, queue, state, cast(args as text) as args, secrets, version, attempt, max_attempts, fence, snoozes, releases, timeout,
    unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note, cancel_requested_at,
    null, ended_at, cast(result as text), error_class, error, resolved_at, resolved_by, resolved_reason
from carafe.jobs_ended where id = :id
limit 1
