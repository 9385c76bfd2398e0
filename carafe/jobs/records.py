"""What is read back of a job: frozen records with the same words as the tables, the HTTP API and the command line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from carafe.jobs.definition import REDACTED, redact
from carafe.jobs.states import State
from carafe.jobs.stored_json import readable


class Enqueued(NamedTuple):
    """The answer to enqueue. `existing`: a live job already held the unique key, and this is that job.

    `replayed`: the idempotency key was used before with the same request, and this is the answer of then.
    """

    id: UUID
    kind: str
    state: State
    existing: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """A number of jobs. `estimated`: above some thousands it is the planner's or the last sample's word, not counted."""

    number: int
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One failed attempt. `cause` is error, timeout, validation, discarded, hook, result or worker lost."""

    attempt: int
    cause: str
    error_class: str | None
    error: str
    traceback: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands. `args` are redacted; `timeout` in seconds; `attempt` is the number of attempts spent.

    `resolved_at`, `by` and `reason`: an operator has discarded this dead job. `secrets`: JSON pointers to what is redacted.
    `cut`: these fields are left out or shortened here, since they are long (`Client.get` has all but old attempts whole).
    """

    id: UUID
    kind: str
    queue: str
    state: State
    args: Any
    version: int
    attempt: int
    max_attempts: int
    timeout: float
    unique_key: str | None
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    progress: float | None
    progress_note: str | None
    result: Any
    error_class: str | None
    error: str | None
    created_by: str | None
    worker: UUID | None
    snoozes: int
    releases: int
    note: str | None = None
    attempts: tuple[AttemptRecord, ...] = field(default=())
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolved_reason: str | None = None
    secrets: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


def job_record(
    row: Mapping[str, Any], attempts: tuple[AttemptRecord, ...] = (), note: str | None = None, cut: Iterable[str] = ()
) -> JobRecord:
    """A record from a row of get.sql or a listing, whatever it holds; secrets redacted."""
    secrets = tuple(pointer for pointer in row["secrets"] or () if pointer is not None)
    return JobRecord(
        id=as_uuid(row["id"]),
        kind=row["kind"],
        queue=row["queue"],
        state=State.stored(row["state"]),
        args=_arguments(row["args"], secrets),
        version=row["version"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        timeout=row["timeout"],
        unique_key=row["unique_key"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        deadline_at=row["deadline_at"],
        cancel_requested_at=row["cancel_requested_at"],
        progress=row["progress"],
        progress_note=row["progress_note"],
        result=readable(row["result"]),
        error_class=row["error_class"],
        error=row["error"],
        created_by=row["created_by"],
        worker=None if row["worker"] is None else as_uuid(row["worker"]),
        snoozes=row["snoozes"],
        releases=row["releases"],
        note=note,
        attempts=attempts,
        resolved_at=row.get("resolved_at"),
        resolved_by=row.get("resolved_by"),
        resolved_reason=row.get("resolved_reason"),
        secrets=secrets,
        cut=(*(row.get("cut") or ()), *cut),
    )


def _arguments(stored: str | None, secrets: tuple[str, ...]) -> Any:
    arguments = readable(stored)
    if not secrets:
        return arguments
    # What could not be taken apart may hold the secrets anywhere.
    return redact(arguments, secrets) if isinstance(arguments, dict | list) else REDACTED


def as_uuid(value: Any) -> UUID:
    """A plain ``uuid.UUID``: drivers give a subclass, text, or the thing itself."""
    return value if type(value) is UUID else UUID(str(value))


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue in numbers. `oldest_wait` in seconds, of the job that has been queued longest. None, of a queue that was just
    paused or resumed: it was not counted in time."""

    name: str
    queued: int | None
    running: int | None
    scheduled: int | None
    retrying: int | None
    dead: int | None
    oldest_wait: float | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of jobs, newest first, and the cursor of the next one (None: this was the last)."""

    jobs: tuple[JobRecord, ...]
    next_cursor: str | None
