"""Reads everything that is known about one job: its row, why it waits, its failed attempts, what it logged, and its
timeline."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from carafe.jobs.actions import ACTIONS
from carafe.jobs.records import INTERRUPTED, AttemptRecord, as_uuid
from carafe.jobs.states import State
from carafe.queue.queue import Queue
from carafe.readmodel.records import JobView, Moment
from carafe.readmodel.statements import JOB_ACTIONS, VERSIONS
from carafe.store import job_logs, stacks
from carafe.store.audit import AuditRecord, audit_record
from carafe.store.database import Connection
from carafe.store.reading import find_job
from carafe.store.waiting import hints_for, sentence

ACTIONS_SHOWN = 200
"""The maximum number of actions on a job that its page shows; the newest are shown."""

_DONE = {"enqueue": "enqueued"} | {action.name: action.done for action in ACTIONS.values()}


async def job_view(connection: Connection, queue: Queue | None, job_id: UUID, *, max_replicas: int | None) -> JobView | None:
    """Returns everything that is known about the job; None when there is no job with this id. Raises what the database
    raises."""
    # The version is read first: if the job changes meanwhile, the version is older than the view, never newer.
    version = (await versions(connection, [job_id])).get(job_id)
    found = await find_job(connection, job_id)
    if found is None or version is None:
        return None
    row, job = found
    attempts = job.attempts
    actions = [audit_record(done) for done in await JOB_ACTIONS.fetch(connection, target=str(job_id), limit=ACTIONS_SHOWN)]
    logs = tuple(await job_logs.read(connection, job_id))
    waiting = await sentence(connection, row, await hints_for(row, queue), max_replicas=max_replicas)
    stack = await stacks.read(connection, job_id) if job.state is State.RUNNING else None
    if stack is not None and (job.started_at is None or stack.requested_at < job.started_at):
        stack = None  # of an attempt before
    names = [attempt.worker for attempt in attempts if attempt.worker]
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
        stack=stack,
        version=version,
    )


async def versions(connection: Connection, ids: Sequence[UUID]) -> Mapping[UUID, str]:
    """Returns the `JobView.version` of each of these jobs that exists. Raises what the database raises."""
    rows = await VERSIONS.fetch(connection, ids=list(ids))
    return {as_uuid(row["id"]): row["version"] for row in rows}


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
    """Returns what happened to the job, in order. Events of the same moment are ordered by what they are (`_FIRST`):
    "created" comes before "started", for example."""
    state = State.stored(row["state"])
    by = f" by {row['created_by']}" if row["created_by"] else ""
    found = [Moment(row["created_at"], "created", f"created{by}")]
    for attempt in attempts:
        if attempt.started_at is not None:
            began = attempt.error_class != "WorkerLost"
            found.append(_claimed(attempt.started_at, attempt.worker, attempt.attempt if began else None))
        found.append(Moment(attempt.ended_at, "failed", attempt.summary))
    found += [_acted(action) for action in actions]
    started: datetime | None = row["started_at"]
    if started is not None and row["worker"] is not None and all(started != moment.at for moment in found):
        # A claim that has neither spent its attempt nor come to an end may never have begun: no one says that it has.
        spent = {attempt.attempt for attempt in attempts if attempt.cause != INTERRUPTED}
        began = state.ended and row["attempt"] not in {0, *spent}
        found.append(_claimed(started, row["worker_name"], row["attempt"] if began else None))
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
        text = "running" if state is State.RUNNING else waiting or state.value
        found.append(Moment(row["now"], "now", text))
        found.sort(key=lambda moment: moment.at)
    return tuple(found)


def _claimed(at: datetime, worker: str | None, began: int | None) -> Moment:
    """The moment of a claim. `began` is the number of the attempt; None if it is not known whether the attempt has begun."""
    if began is None:
        return Moment(at, "started", f"claimed by {worker}" if worker else "claimed by a worker")
    return Moment(at, "started", f"attempt {began} started{f' on {worker}' if worker else ''}")


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
