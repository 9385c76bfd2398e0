"""What the job API takes and gives: the models of its OpenAPI document."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from carafe.jobs import State
from carafe.jobs.audit import LONGEST_REASON
from carafe.jobs.bulk import FASTEST, SLOWEST, Action, BulkActionRecord, BulkState
from carafe.jobs.delays import MAX_DELAY
from carafe.jobs.enqueueing import MAX_KEY
from carafe.jobs.filters import LONGEST, SELECTED


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


class EditRequest(BaseModel):
    """Other arguments for a job of a kind that was enqueued before."""

    model_config = ConfigDict(extra="forbid")

    args: dict[str, Any] = Field(description="All arguments of the new job; `GET /jobs/{job_id}` shows the old one's.")
    keep_secrets: list[str] = Field(
        default_factory=list,
        max_length=1_000,
        description="JSON pointers, such as `/password`, to secret arguments whose stored values are taken over; `args` may "
        "hold anything there.",
    )
    run_at: Moment | None = Field(None, description="Not before this time (with its zone), up to ten years ahead.")


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
    secrets: Sequence[str] = Field(description="JSON pointers to the arguments whose values are redacted.")
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
    resolved_at: datetime | None = Field(description="Since when it is given up (a dead job only).")
    resolved_by: str | None
    resolved_reason: str | None
    cut: Sequence[str] = Field(
        description="Fields that are left out (args, result) or shortened here, since they are long: in a list what has "
        "over 2,000 characters, which `GET /jobs/{job_id}` has whole; and `attempts`, of which one answer has the "
        "newest 200 and some 500,000 characters."
    )


class JobDetail(JobModel):
    """A job with its failed attempts."""

    note: str | None = Field(description="Why it waits, where that is known.")
    attempts: list[AttemptModel]


class JobPage(BaseModel):
    """A page of jobs, newest first: as many as were asked for, or those that fit into a megabyte."""

    model_config = ConfigDict(from_attributes=True)

    jobs: Sequence[JobModel]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class JobFilter(BaseModel):
    """Which jobs to list."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = Field(
        default_factory=list, max_length=100, description="Any of these; repeat the parameter. Default: all."
    )
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
    """A queue in numbers; null, where it was just paused or resumed, what was not counted in time."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    queued: int | None
    running: int | None
    scheduled: int | None
    retrying: int | None
    dead: int | None
    oldest_wait: float | None = Field(description="Seconds that the oldest queued job has waited.")
    paused_at: datetime | None = Field(description="Since when nothing of it is started; null: it is not paused.")
    paused_by: str | None
    paused_reason: str | None


class QueueList(BaseModel):
    """All queues, by name."""

    queues: list[QueueModel]


class BulkFilter(BaseModel):
    """Which jobs: those that meet all of what is given. Nothing given: all that the action is for."""

    model_config = ConfigDict(extra="forbid")

    states: list[State] | None = Field(None, max_length=100, description="Any of these.")
    kind: Kind | None = None
    error_class: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = Field(
        None, description="Of the last failed attempt, such as `ConnectTimeout`."
    )
    fingerprint: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = Field(
        None, description="Of a group of dead jobs with the same kind of error."
    )
    worker: UUID | None = Field(None, description="Ran or runs there.")
    since: Moment | None = Field(None, description="Ended (live jobs: created) then or later.")
    until: Moment | None = Field(None, description="Ended (live jobs: created) before then.")
    text: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = Field(None, description="A part of the error.")
    argument: Annotated[list[str], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="Name and exact value, as text, of a top-level argument that is no secret.",
        examples=[["briefing_id", "01980a2e-7c11-7000-8000-000000000001"]],
    )
    resolved: StrictBool | None = Field(
        None, description="Whether a dead job has been given up. A retry leaves such jobs out by default."
    )
    ids: list[UUID] | None = Field(None, min_length=1, max_length=SELECTED, description="Only these jobs.")


class BulkActionRequest(BaseModel):
    """Something to be done to many jobs."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    filter: BulkFilter
    rate: Annotated[float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False, strict=True)] | None = Field(
        None, description="Jobs a second at most. A retry of more than 1,000 jobs gets 50 unless this says otherwise."
    )
    reason: Annotated[str, Field(max_length=LONGEST_REASON, pattern=r"^[^\x00]*$")] | None = Field(
        None, description="Why; kept with the action and each job's audit. A discard needs one."
    )


class BulkActionModel(BaseModel):
    """A bulk action as it stands."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    action: Action
    filter: Mapping[str, Any] = Field(
        description="What it concerns, frozen at its start; a list says of over a hundred selected jobs how many they are."
    )
    cutoff: datetime = Field(description="What ended (live jobs: was created) later is not touched.")
    rate: float | None = Field(description="Jobs a second at most; null: as fast as it goes.")
    actor: str
    via: str = Field(description="dashboard, api or cli.")
    reason: str | None
    state: BulkState
    matched: int = Field(description="How many jobs met the filter at its start.")
    matched_estimated: bool = Field(description="Whether that is an estimate.")
    done: int
    skipped: int = Field(description="Gone, or in another state, when it was their turn.")
    failed: int = Field(description="Could not be changed; `last_error` says why the last one could not.")
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, record: BulkActionRecord) -> Self:
        """The model of a record."""
        given = asdict(record)
        matched = given.pop("matched")
        return cls(**given, matched=matched["number"], matched_estimated=matched["estimated"])


class BulkActionList(BaseModel):
    """Bulk actions, newest first."""

    bulk_actions: list[BulkActionModel]


class AuditModel(BaseModel):
    """Something that somebody did."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    at: datetime
    actor: str
    via: str = Field(description="dashboard, api, cli or steward.")
    action: str
    target: str = Field(description="The id or name of a job, worker, queue or bulk action.")
    reason: str | None
    details: Mapping[str, Any] = Field(
        description="What more there is to say; of over a hundred selected jobs their number."
    )
    bulk: UUID | None = Field(description="The bulk action that this was a part of.")


class AuditList(BaseModel):
    """A page of the audit, newest first."""

    rows: list[AuditModel]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class RunningModel(BaseModel):
    """What a worker runs."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    seconds: float = Field(description="For how long.")


class WorkerModel(BaseModel):
    """A worker."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    host: str
    pid: int
    version: str
    state: str = Field(description="running, draining, stopped or lost.")
    drain_requested: bool
    concurrency: int
    slots_used: int
    running: Sequence[RunningModel]
    heartbeat_age: float = Field(description="Seconds since its last heartbeat.")
    started_at: datetime
    pod: str
    node: str
    kinds: Sequence[str]


class WorkerList(BaseModel):
    """Workers: those alive, and those that went in the last hour, the newest first."""

    live: list[WorkerModel]
    gone: list[WorkerModel]
    cut: bool = Field(description="Whether there are more: 500 are listed, or as many as fit into a megabyte.")


class DrainModel(BaseModel):
    """A worker that is asked to drain."""

    id: UUID
    drain_requested_at: datetime
