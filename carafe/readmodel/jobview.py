"""All that is known of one job: its row, why it waits, its failed attempts, what it logged, and its life as a timeline."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from carafe.jobs import job_logs
from carafe.jobs.audit import AuditRecord, audit_record
from carafe.jobs.moves import Connection
from carafe.jobs.queue import Queue
from carafe.jobs.records import AttemptRecord, Count, as_uuid, job_record
from carafe.jobs.statements import ATTEMPTS
from carafe.jobs.states import State
from carafe.readmodel.facts import facts, next_hint, redis_trouble
from carafe.readmodel.records import JobView, Moment
from carafe.readmodel.statements import BEFORE_IT, JOB, JOB_ACTIONS, KEY_HOLDER, VERSIONS
from carafe.readmodel.waiting import Waiting, why
from carafe.readmodel.walks import FEW
from carafe.readmodel.words import seconds_in_words

ACTIONS = 200
"""Actions on a job that are told of, the newest."""

_DONE = {"retry": "retried", "cancel": "cancelled", "run now": "run now", "discard": "discarded", "enqueue": "enqueued"}


async def job_view(connection: Connection, queue: Queue | None, job_id: UUID, *, max_replicas: int | None) -> JobView | None:
    """The view, or None when there is no such job. Raises what the database raises."""
    # First, so that a change meanwhile makes it out of date, never the other way round.
    version = (await versions(connection, [job_id])).get(job_id)
    row = await connection.fetchrow(JOB.positional, *JOB.arguments(id=job_id))
    if row is None or version is None:
        return None
    failed = await connection.fetch(ATTEMPTS.positional, job_id)
    attempts = tuple(map(_attempt, failed))
    arguments = JOB_ACTIONS.arguments(target=str(job_id), limit=ACTIONS)
    actions = [audit_record(found) for found in await connection.fetch(JOB_ACTIONS.positional, *arguments)]
    logs = tuple(await job_logs.read(connection, job_id))
    waiting = await _waiting(connection, queue, row, max_replicas)
    names = [attempt.worker for attempt in attempts if attempt.worker]
    job = job_record(row, attempts, cut=("attempts",) if any(found["cut"] for found in failed) else ())
    return JobView(
        job=job,
        secrets=job.secrets,
        trace=row["trace"],
        fingerprint=row["error_fingerprint"],
        resolved_at=row["resolved_at"],
        resolved_by=row["resolved_by"],
        resolved_reason=row["resolved_reason"],
        worker_name=row["worker_name"] or (names[-1] if names and row["worker"] is not None else None),
        worker_alive=row["worker_alive"],
        waiting=waiting,
        attempts=attempts,
        timeline=_timeline(row, attempts, actions, waiting),
        logs=logs,
        logs_cut=job_logs.were_cut(logs),
        origin=_origin(actions),
        version=version,
    )


async def versions(connection: Connection, ids: Sequence[UUID]) -> Mapping[UUID, str]:
    """What changes whenever a job's view may have changed, of those that exist. Raises what the database raises."""
    rows = await connection.fetch(VERSIONS.positional, *VERSIONS.arguments(ids=list(ids)))
    return {as_uuid(row["id"]): row["version"] for row in rows}


async def _waiting(
    connection: Connection, queue: Queue | None, row: Mapping[str, Any], max_replicas: int | None
) -> str | None:
    state = State.stored(row["state"])
    holder = None
    if state is State.DEAD and row["unique_key"] is not None:
        found = await connection.fetchrow(KEY_HOLDER.positional, *KEY_HOLDER.arguments(key=row["unique_key"]))
        holder = None if found is None else as_uuid(found["id"])
    if state is State.RUNNING or (state.ended and holder is None):
        return None
    redis = hint = None
    before = Count(0)
    if state is State.QUEUED:
        redis = await redis_trouble(queue)
        hint = None if queue is None or redis is not None else await next_hint(queue)
        if row["hinted_at"] is not None:
            arguments = BEFORE_IT.arguments(queue=row["queue"], hinted_at=row["hinted_at"], limit=FEW + 1)
            number = await connection.fetchval(BEFORE_IT.positional, *arguments)
            before = Count(number, number > FEW)
    job = Waiting(
        state=state,
        kind=row["kind"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        due_at=row["due_at"],
        hinted_at=row["hinted_at"],
        deferrals=row["deferrals"],
        snoozes=row["snoozes"],
        suspect=row["suspect"],
        unique_key=row["unique_key"],
        redis=redis,
        hint=hint,
        before=before,
        holder=holder,
    )
    return why(job, await facts(connection, max_replicas=max_replicas, queue=row["queue"]))


def _attempt(row: Mapping[str, Any]) -> AttemptRecord:
    return AttemptRecord(
        attempt=row["attempt"],
        cause=row["cause"],
        error_class=row["error_class"],
        error=row["error"],
        traceback=row["traceback"],
        worker=row["worker_name"] or (str(row["worker"]) if row["worker"] else None),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _origin(actions: Iterable[AuditRecord]) -> UUID | None:
    for action in actions:
        if action.action == "edit and run" and "origin" in action.details:
            try:
                return UUID(str(action.details["origin"]))
            except ValueError:
                return None
    return None


def _timeline(
    row: Mapping[str, Any], attempts: Iterable[AttemptRecord], actions: Iterable[AuditRecord], waiting: str | None
) -> tuple[Moment, ...]:
    """What happened, in order; of one moment, what came first by its nature stands first."""
    state = State.stored(row["state"])
    by = f" by {row['created_by']}" if row["created_by"] else ""
    found = [Moment(row["created_at"], "created", f"created{by}")]
    for attempt in attempts:
        where = f" on {attempt.worker}" if attempt.worker else ""
        took = ""
        if attempt.started_at is not None:
            found.append(Moment(attempt.started_at, "started", f"attempt {attempt.attempt} started{where}"))
            took = f" after {seconds_in_words((attempt.ended_at - attempt.started_at).total_seconds())}"
        error = attempt.error_class or attempt.cause
        found.append(Moment(attempt.ended_at, "failed", f"attempt {attempt.attempt} failed{took}: {error}"))
    found += [_acted(action) for action in actions]
    started: datetime | None = row["started_at"]
    if started is not None and row["worker"] is not None and all(started != moment.at for moment in found):
        number = row["attempt"] + (0 if state.ended else 1)
        where = f" on {row['worker_name']}" if row["worker_name"] else ""
        found.append(Moment(started, "started", f"attempt {number} started{where}"))
    if row["cancel_requested_at"] is not None and state is not State.CANCELLED:
        found.append(Moment(row["cancel_requested_at"], "cancel requested", "cancel requested"))
    if row["ended_at"] is not None:
        error = f": {row['error_class']}" if row["error_class"] else ""
        found.append(Moment(row["ended_at"], "ended", f"{state.value}{error}"))
    if row["resolved_at"] is not None:
        who = f" by {row['resolved_by']}" if row["resolved_by"] else ""
        why_ = f": {row['resolved_reason']}" if row["resolved_reason"] else ""
        found.append(Moment(row["resolved_at"], "resolved", f"discarded{who}{why_}"))
    found.sort(key=lambda moment: (moment.at, _FIRST.index(moment.what)))
    if not state.ended:
        if state in (State.SCHEDULED, State.RETRYING):
            found.append(Moment(row["due_at"], "due", "due"))
        if state is State.RUNNING:
            text = f"running for {seconds_in_words((row['now'] - started).total_seconds())}" if started else "running"
        else:
            text = waiting or state.value
        found.append(Moment(row["now"], "now", text))
        found.sort(key=lambda moment: moment.at)
    return tuple(found)


_FIRST = (
    "created", "acted", "retried", "due", "started", "cancel requested", "failed", "ended", "resolved", "now"
)  # fmt: skip


def _acted(action: AuditRecord) -> Moment:
    reason = f": {action.reason}" if action.reason else ""
    bulk = " in a bulk action" if action.bulk is not None else ""
    if action.action == "edit and run":
        new = action.details.get("new")
        text = f"edited and run as {new} by {action.actor}" if new else f"made from another job by {action.actor}"
    else:
        text = f"{_DONE.get(action.action, action.action)} by {action.actor}"
    return Moment(action.at, "retried" if action.action == "retry" else "acted", f"{text}{bulk}{reason}")
