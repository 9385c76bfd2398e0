"""What the job API takes and gives: the models of its OpenAPI document."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from carafe.jobs import State
from carafe.jobs.enqueueing import MAX_DELAY, MAX_KEY


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


def _written_out(value: object) -> object:
    # Pydantic would read a number, or one in quotes, as seconds since 1970.
    if isinstance(value, str) and not value.lstrip("+-").replace(".", "", 1).isdigit():
        return value
    raise ValueError("must be a date and time with its zone, such as 2030-01-01T06:00:00Z")


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_utc)]
"""A point in time with its zone (RFC 3339), as UTC; one that UTC cannot hold is refused."""

Kind = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["briefing.generate"])]


class EnqueueRequest(BaseModel):
    """A job to enqueue."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    args: dict[str, Any] = Field(default_factory=dict, description="The job's arguments; `GET /kinds` has their schemas.")
    run_at: Moment | None = Field(None, description="Not before this time (with its zone), up to ten years ahead.")
    delay: Annotated[float, Field(ge=0, le=MAX_DELAY, allow_inf_nan=False, strict=True)] | None = Field(
        None, description="Not before this many seconds from now. Give run_at or delay, not both."
    )
    unique_key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)] | None = Field(
        None, description="At most one live job holds a key; the one that does is returned and says `existing`."
    )


class BulkRequest(BaseModel):
    """Jobs to enqueue, all or none."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[EnqueueRequest] = Field(min_length=1, description="As many as BULK_LIMIT allows (10,000).")


class AcceptedJob(BaseModel):
    """A job that is committed and will reach an end."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    state: State = Field(description="Where it stood when it was accepted.")
    existing: bool = Field(description="Whether a live job already held the unique key; this is that job then.")


class BulkAccepted(BaseModel):
    """The jobs of a bulk, in its order."""

    jobs: list[AcceptedJob]


class AttemptModel(BaseModel):
    """A failed attempt."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    cause: str = Field(description="error, timeout, validation, discarded, hook, result or worker lost.")
    error_class: str | None
    error: str
    traceback: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime


class JobModel(BaseModel):
    """A job as it stands. Secret arguments are redacted."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    queue: str
    state: State
    args: Any
    version: int = Field(description="The version of the arguments.")
    attempt: int = Field(description="Attempts spent.")
    max_attempts: int
    timeout: float = Field(description="Seconds that one attempt may take.")
    unique_key: str | None
    created_at: datetime
    due_at: datetime = Field(description="When it may run, or could first.")
    started_at: datetime | None
    ended_at: datetime | None
    deadline_at: datetime | None = Field(description="When the running attempt's time is up.")
    cancel_requested_at: datetime | None
    progress: float | None = Field(description="From 0 to 1, as the handler says.")
    progress_note: str | None
    result: Any
    error_class: str | None
    error: str | None
    created_by: str | None = Field(description="The name of the token it was enqueued with.")
    worker: UUID | None
    snoozes: int
    releases: int


class JobDetail(JobModel):
    """A job with its failed attempts."""

    note: str | None = Field(description="Why it waits, where that is known.")
    attempts: list[AttemptModel]


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    model_config = ConfigDict(from_attributes=True)

    jobs: Sequence[JobModel]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class JobFilter(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(default_factory=list, description="Any of these; repeat the parameter. Default: all.")
    kind: Kind | None = None
    since: Moment | None = Field(None, description="Ended (if only ended states are asked for) or created from then on.")
    until: Moment | None = Field(None, description="Ended or created before then.")
    cursor: Annotated[str, Field(max_length=500)] | None = Field(None, description="`next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=500)


class KindModel(BaseModel):
    """A kind of job that this process knows."""

    kind: str
    description: str | None
    version: int
    timeout: float = Field(description="Seconds that one attempt may take.")
    max_retries: int
    args_schema: dict[str, Any] | None = Field(
        description="JSON Schema of the arguments; null where none can be given for their types.",
    )


class KindList(BaseModel):
    """All kinds, by name."""

    kinds: list[KindModel]


class QueueModel(BaseModel):
    """A queue in numbers."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    queued: int
    running: int
    scheduled: int
    retrying: int
    dead: int
    oldest_wait: float = Field(description="Seconds that the oldest queued job has waited.")
    paused_at: datetime | None = Field(description="Since when nothing of it is started; null: it is not paused.")
    paused_by: str | None
    paused_reason: str | None


class QueueList(BaseModel):
    """All queues, by name."""

    queues: list[QueueModel]
