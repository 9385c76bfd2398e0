"""The records that the client returns about jobs. They are frozen, and their fields have the same names as in the tables,
the HTTP API and the command line."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Generic, NamedTuple
from uuid import UUID

from pydantic import Field

from carafe.jobs.definition import REDACTED, Result, redact
from carafe.jobs.options import OF_ONE_JOB
from carafe.jobs.states import State
from carafe.jobs.stored_json import readable


class Enqueued(NamedTuple, Generic[Result]):
    """The answer to an enqueue. `existing`: another live job already held the unique key, so nothing was stored, and the
    answer names that job.

    `replayed`: the idempotency key was used before with the same request, and this is the answer to that earlier request.
    `Client.wait` and `Client.get` accept an `Enqueued` instead of the id, and then return the result as the type that the
    job's class declares.
    """

    id: UUID
    kind: str
    state: State
    existing: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """A number of jobs. `estimated`: the number is large, and was not counted but comes from Postgres's planner or from the
    last sample."""

    number: int
    estimated: bool = False


INTERRUPTED = "interrupted"
"""The cause of an attempt that ended with its worker and is not spent, because nobody knows whose fault the end was."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a job that failed or was interrupted: when and where it ran, and its error.

    An interrupted attempt ended because its worker was lost. It spent nothing, so the next attempt has the same number.
    """

    attempt: int
    cause: Annotated[
        str, Field(description="error, timeout, validation, discarded, hook, result, crash, worker lost or interrupted.")
    ]
    error_class: str | None
    error: str
    traceback: str | None
    worker: str | None
    started_at: Annotated[
        datetime | None, Field(description="When a worker claimed the job; its handler begins a moment later.")
    ]
    ended_at: datetime
    summary: Annotated[str, Field(description="What became of the attempt, in words.")]


@dataclass(frozen=True, slots=True)
class JobRecord(Generic[Result]):
    """A job as it stands now, with everything that lists, the HTTP API, the command line and the dashboard show of it.

    The fields are declared here only: the store reads them as columns (carafe.store.job_columns), and the HTTP API's model
    is made from these fields and their descriptions. Secrets in `args` are redacted. `error_class` and `error` of a live job
    are those of its last failed attempt. Only `Client.get` sets `note` and `attempts`. `result` is plain JSON data, or of
    the type that the job's class declares (``Job[Exported]``) if `Client.wait` or `Client.get` was given an `Enqueued`.
    """

    id: UUID
    kind: str
    queue: str
    state: State
    args: Any
    secrets: Annotated[tuple[str, ...], Field(description="JSON pointers to the arguments whose values are redacted.")]
    version: Annotated[int, Field(description="The version of the arguments.")]
    attempt: Annotated[int, Field(description="How many attempts were used up.")]
    max_attempts: int
    timeout: Annotated[float, Field(description="Seconds that one attempt may take.")]
    unique_key: str | None
    created_at: datetime
    due_at: Annotated[datetime, Field(description="The earliest time at which the job may run, or could have run.")]
    started_at: datetime | None
    ended_at: datetime | None
    deadline_at: Annotated[datetime | None, Field(description="When the running attempt times out.")]
    cancel_requested_at: datetime | None
    progress: Annotated[float | None, Field(description="From 0 to 1, as the handler last reported it.")]
    progress_note: str | None
    result: Result
    error_class: Annotated[str | None, Field(description="The class of `error`.")]
    error: Annotated[str | None, Field(description="The error that ended the job; of a live job, its last attempt's error.")]
    created_by: Annotated[str | None, Field(description="The name of the API token that enqueued the job.")]
    worker: UUID | None
    snoozes: int
    releases: int
    resolved_at: Annotated[datetime | None, Field(description="When an operator discarded this dead job.")] = None
    resolved_by: str | None = None
    resolved_reason: str | None = None
    cut: Annotated[
        tuple[str, ...],
        Field(
            description="Fields that are left out (args, result) or shortened here, since they are long. A list does so "
            "with fields of more than 2,000 characters; `GET /jobs/{job_id}` returns them whole. An answer has at most the "
            "newest 200 `attempts`, with some 500,000 characters in all."
        ),
    ] = ()
    note: Annotated[str | None, Field(description="Why the job waits or, if dead, why it cannot be retried now.")] = None
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def resolved(self) -> bool:
        """Whether an operator has discarded this dead job."""
        return self.resolved_at is not None

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody has asked to cancel this job."""
        return self.cancel_requested_at is not None

    @property
    def duration(self) -> float | None:
        """How many seconds the last run of an ended job took. None for a job that has not ended, or that ended without a
        run."""
        if self.started_at is None or self.ended_at is None or self.worker is None:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


_STORED = tuple(field.name for field in fields(JobRecord) if field.name not in ("cut", "note", "attempts"))


def job_record(
    row: Mapping[str, Any], attempts: tuple[AttemptRecord, ...] = (), cut: Iterable[str] = (), **more: Any
) -> JobRecord:
    """The record of a job, made from a row that has the columns of carafe.store.job_columns. Accepts every value that a row
    can hold, and redacts the secrets. The keyword arguments `more` are fields that override those of the row."""
    secrets = tuple(pointer for pointer in row["secrets"] or () if pointer is not None)
    read = {
        "id": as_uuid(row["id"]),
        "state": State.stored(row["state"]),
        "args": _arguments(row["args"], secrets),
        "secrets": secrets,
        "result": readable(row["result"]),
        "worker": None if row["worker"] is None else as_uuid(row["worker"]),
    }
    if read["state"] is State.QUEUED:
        read["started_at"] = None  # the row of a job that was rescued has the time of the claim that was lost
    values = {name: row[name] for name in _STORED} | read | more
    return JobRecord(**values, attempts=attempts, cut=(*(row.get("cut") or ()), *cut))


def shown_options(job: JobRecord) -> Iterator[tuple[str, str, str]]:
    """Yields (name, label, value as text) for each option in `options.OF_ONE_JOB` that is set for this job."""
    for name, option in OF_ONE_JOB.items():
        value = getattr(job, name)
        if value != option.default:
            yield name, option.label, f"{value} s" if option.what == "duration" else str(value)


def _arguments(stored: str | None, secrets: tuple[str, ...]) -> Any:
    arguments = readable(stored)
    if not secrets:
        return arguments
    # Text that could not be parsed may hold the secrets anywhere.
    return redact(arguments, secrets) if isinstance(arguments, dict | list) else REDACTED


def as_uuid(value: Any) -> UUID:
    """Returns `value`, which a driver gave as a ``uuid.UUID``, a subclass of it, or text, as a plain ``uuid.UUID``."""
    return value if type(value) is UUID else UUID(str(value))


@dataclass(frozen=True, slots=True)
class StackRecord:
    """Where a running job is, as its worker said: lines of the form ``file:number in function``, the innermost last. First
    those of the handler, then those of the tasks that it has made.

    `lines` and `answered_at` are None while the worker has not answered. `lines` is empty if the attempt was over by then.
    A sentence in place of a line is a remark, for example that the job blocks its worker's event loop. `fence` is the number
    of the claim that was asked about. `worker` is the name of its worker, and `heartbeat_age` how old that worker's last
    heartbeat is, in seconds; both are None if the worker is not known any more.
    """

    job_id: UUID
    fence: int
    requested_at: datetime
    answered_at: datetime | None
    lines: tuple[str, ...] | None
    worker: str | None = None
    heartbeat_age: float | None = None


@dataclass(frozen=True, slots=True)
class KindRecord:
    """A kind, and whether it is paused: since when (None: it is not), by whom and why.

    `held` is the number of its queued jobs, which the pause holds back; at most `MAX_HELD` are counted. Jobs that were
    queued before the pause are counted within seconds, once the steward has found their lost hints. It is 0 in the answer to
    a pause or resume. `unchanged`, in such an answer: whether the kind was paused, or was not, before. `note` is a sentence
    about workers that start its jobs in spite of the pause or, in the answer to a resume, about a pause of the queue; None
    if there is nothing to say.
    """

    kind: str
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    held: int = 0
    unchanged: bool = False
    note: str | None = None


MAX_HELD = 1_000
"""The maximum number of jobs of a paused kind that are counted."""


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue: the numbers of its jobs by state, and whether it is paused. `held` is the number of queued jobs whose kind is
    paused; they are counted in `queued`, too. `oldest_wait` is the number of seconds that the job which was queued
    first has waited, of the jobs whose kind is not paused. The numbers are None if the queue was just paused or
    resumed and counting took too long. `unchanged`, in the answer to a pause: whether the queue was paused already;
    in the answer to a resume: whether it was not paused."""

    name: str
    queued: int | None
    held: int | None
    running: int | None
    scheduled: int | None
    retrying: int | None
    dead: int | None
    oldest_wait: float | None
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of jobs, newest first. `next_cursor` is the cursor of the next page, or None if this is the last page.

    `searched_to` is set if there is no index for the filter: then only the newest rows, back to this time, were searched.
    The page may have fewer jobs than requested, or none, and `next_cursor` continues the search from that time.
    """

    jobs: tuple[JobRecord, ...]
    next_cursor: str | None
    searched_to: datetime | None = None
