"""The request and response bodies of the job API, as pydantic models. They are also the schemas of its OpenAPI document."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias, cast, get_type_hints
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from carafe import JobRecord, State
from carafe.jobs.actions import ACTIONS, ActionName
from carafe.jobs.options import ENQUEUE_OPTIONS, EnqueueOptions, Option
from carafe.jobs.records import AttemptRecord
from carafe.settings import job_defaults
from carafe.store.audit import LONGEST_REASON, REASON
from carafe.store.bulk import FASTEST, SLOWEST, BulkActionRecord, BulkState
from carafe.web.filters import FilterInBody


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
"""A point in time with its zone (RFC 3339), converted to UTC. A time that is out of range in UTC is refused."""

Kind = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["report.send"])]


class JobToEnqueue(BaseModel):
    """A job to enqueue."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    args: dict[str, Any] = Field(default_factory=dict, description="The job's arguments; `GET /kinds` has their schemas.")

    @property
    def options(self) -> EnqueueOptions:
        """The options that the request gives, by name; options that it leaves out are missing."""
        given = self.model_fields_set & ENQUEUE_OPTIONS.keys()
        return cast(EnqueueOptions, {name: getattr(self, name) for name in given})


def _field_of(option: Option) -> Any:
    """Returns the type and the pydantic field of an option in a body. Values must have the right JSON type already: no text
    is converted to a number, for example."""
    types: dict[str, Any] = {
        "moment": Moment,
        "duration": Annotated[float, Field(ge=option.least, le=option.most, allow_inf_nan=False, strict=True)],
        "integer": Annotated[int, Field(ge=option.least, le=option.most, strict=True)],
        "text": Annotated[str, Field(min_length=int(option.least), max_length=int(option.most))],
    }
    unit = {"duration": " In seconds.", "moment": " With its zone, such as 2030-01-01T06:00:00Z."}.get(option.what, "")
    return types[option.what] | None, Field(None, description=option.help + unit)


EnqueueRequest = create_model(
    "EnqueueRequest",
    __base__=JobToEnqueue,
    __doc__=JobToEnqueue.__doc__,
    **{name: _field_of(option) for name, option in ENQUEUE_OPTIONS.items()},
)
"""The body that enqueues a job: its kind, its arguments, and the options of `EnqueueOptions`."""


class BulkRequest(BaseModel):
    """Jobs to enqueue in one commit: either all are stored or none."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[EnqueueRequest] = Field(min_length=1, description=f"At most BULK_LIMIT ({job_defaults.BULK:,}).")


class EditRequest(BaseModel):
    """The arguments with which to run an existing job again, as a new job."""

    model_config = ConfigDict(extra="forbid")

    args: dict[str, Any] = Field(description="All arguments of the new job; `GET /jobs/{job_id}` shows the old one's.")
    keep_secrets: list[str] = Field(
        default_factory=list,
        max_length=1_000,
        description="JSON pointers, such as `/password`, to secret arguments whose stored values are kept; `args` may "
        "hold anything there.",
    )
    run_at: Moment | None = Field(None, description="Not before this time (with its zone), up to ten years ahead.")


class AcceptedJob(BaseModel):
    """A job that is committed and will reach an end."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    state: State = Field(description="Its state when it was accepted.")
    existing: bool = Field(description="Whether a live job already held the unique key. The answer then describes that job.")


class BulkAccepted(BaseModel):
    """The jobs of an accepted bulk, in the order of the request."""

    jobs: list[AcceptedJob]


def _model_of(
    record: type[Any], name: str, doc: str, *, only: Container[str] | None = None, **types: Any
) -> type[BaseModel]:
    """Returns a pydantic model with the fields of the dataclass `record`, and their types and descriptions.

    If `only` is given, the model has only these fields. The keyword arguments `types` replace the types of some fields.
    """
    hints = get_type_hints(record, include_extras=True) | types
    shown: dict[str, Any] = {
        field.name: (hints[field.name], ...) for field in fields(record) if only is None or field.name in only
    }
    return create_model(name, __config__=ConfigDict(from_attributes=True), __doc__=doc, **shown)


IN_LISTS = tuple(field.name for field in fields(JobRecord) if field.name not in ("note", "attempts"))
"""The fields of a job in a list: all except those that are read for a single job only."""

if TYPE_CHECKING:
    JobModel: TypeAlias = JobRecord
    JobDetail: TypeAlias = JobRecord
else:
    _attempt = _model_of(AttemptRecord, "AttemptModel", "A failed attempt.")
    JobModel = _model_of(JobRecord, "JobModel", "A job as it stands. Secret arguments are redacted.", only=IN_LISTS)
    JobDetail = _model_of(
        JobRecord, "JobDetail", "A job with its failed attempts, and why it waits.", attempts=list[_attempt]
    )


class JobPage(BaseModel):
    """A page of jobs, newest first: at most `limit` jobs, and at most a megabyte."""

    model_config = ConfigDict(from_attributes=True)

    jobs: Sequence[JobModel]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last page.")
    searched_to: datetime | None = Field(
        description="No index serves the filter, so the newest jobs back to this time were searched: `next_cursor` "
        "continues there. This page may have fewer jobs than `limit`, or none."
    )


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


class StackModel(BaseModel):
    """Where a running job is, as its worker said."""

    model_config = ConfigDict(from_attributes=True)

    job_id: UUID
    requested_at: datetime
    answered_at: datetime | None = Field(description="Null if the worker did not answer within 5 seconds.")
    lines: list[str] | None = Field(
        description="`file:number in function`, the innermost last; then those of tasks that the handler has made. Empty if "
        "the attempt was over. A sentence in place of such a line is a remark."
    )
    worker: str | None = Field(description="The name of the worker that was asked.")
    heartbeat_age: float | None = Field(description="How old that worker's last heartbeat is, in seconds.")


class PausedKindModel(BaseModel):
    """A kind, and whether it is paused."""

    model_config = ConfigDict(from_attributes=True)

    kind: str
    paused_at: datetime | None = Field(description="When the kind was paused; null if it is not paused.")
    paused_by: str | None
    paused_reason: str | None
    note: str | None = Field(
        description="Which live workers, of a release that does not know pauses of kinds, still start its jobs; in the "
        "answer to a resume, that the queue is paused. Null if there is nothing to say."
    )


class PausedKindList(BaseModel):
    """The kinds that are paused, by name."""

    kinds: list[PausedKindModel]


class QueueModel(BaseModel):
    """A queue in numbers. In the answer to a pause or resume, numbers that could not be counted in time are null."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    queued: int | None
    held: int | None = Field(description="How many of the queued jobs are of paused kinds, which start nothing.")
    running: int | None
    scheduled: int | None
    retrying: int | None
    dead: int | None
    oldest_wait: float | None = Field(
        description="Seconds that the oldest queued job has waited, of those whose kind is not paused."
    )
    paused_at: datetime | None = Field(description="When the queue was paused; null if it is not paused.")
    paused_by: str | None
    paused_reason: str | None


class QueueList(BaseModel):
    """All queues, by name."""

    queues: list[QueueModel]


class BulkActionRequest(BaseModel):
    """An action to carry out on all jobs that match a filter."""

    model_config = ConfigDict(extra="forbid")

    action: ActionName
    filter: FilterInBody
    rate: Annotated[float, Field(ge=SLOWEST, le=FASTEST, allow_inf_nan=False, strict=True)] | None = Field(
        None, description="Maximum jobs per second. Default for a retry of more than 1,000 jobs: 50."
    )
    reason: Annotated[str, Field(max_length=LONGEST_REASON, pattern=REASON)] | None = Field(
        None, description="The reason; stored with the action and in each job's audit. Required for a discard."
    )


class BulkActionModel(BaseModel):
    """The current state of a bulk action."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    action: str = Field(description=f"{', '.join(ACTIONS)}; or an action that a later version of Carafe adds.")
    filter: Mapping[str, Any] = Field(
        description="The filter, as it was at the start. Lists give only the number of selected jobs, if over a hundred."
    )
    cutoff: datetime = Field(description="Jobs that ended later are not touched, nor live jobs that were created later.")
    rate: float | None = Field(description="Maximum jobs per second; null if there is no limit.")
    actor: str
    via: str = Field(description="dashboard, api or cli.")
    reason: str | None
    state: BulkState
    matched: int = Field(description="How many jobs matched the filter at the start.")
    matched_estimated: bool = Field(description="Whether `matched` is an estimate.")
    done: int
    skipped: int = Field(
        description="Jobs that changed state, or were gone, before this action reached them. Without `ids` in the filter, "
        "they are counted at its end: the jobs of `matched` that were neither done nor failed. They are not counted if "
        "`matched` is an estimate."
    )
    failed: int = Field(description="Jobs that could not be changed; `last_error` has the last reason.")
    last_error: str | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, record: BulkActionRecord) -> Self:
        """Returns the model of a bulk action's record."""
        given = asdict(record)
        matched = given.pop("matched")
        return cls(**given, matched=matched["number"], matched_estimated=matched["estimated"])


class BulkActionList(BaseModel):
    """Bulk actions, newest first."""

    bulk_actions: list[BulkActionModel]


class AuditModel(BaseModel):
    """An entry of the audit: one action that somebody took."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    at: datetime
    actor: str
    via: str = Field(description="dashboard, api, cli or steward.")
    action: str
    target: str = Field(description="The id or name of a job, worker, queue or bulk action.")
    reason: str | None
    details: Mapping[str, Any] = Field(description="Further details. For over a hundred selected jobs, only their number.")
    bulk: UUID | None = Field(description="The bulk action that this was part of.")


class AuditList(BaseModel):
    """A page of the audit, newest first."""

    rows: list[AuditModel]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last page.")


class RunningModel(BaseModel):
    """A job that a worker is running."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    seconds: float = Field(description="Seconds that the job has been running.")


class WorkerModel(BaseModel):
    """A worker process, and the jobs that it runs."""

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
    """The live workers, and those that ended or were lost in the last hour, newest first."""

    live: list[WorkerModel]
    gone: list[WorkerModel]
    cut: bool = Field(description="Whether workers were left out: at most 500 are listed, and at most a megabyte.")


class DrainModel(BaseModel):
    """A worker that was asked to drain, and when."""

    id: UUID
    drain_requested_at: datetime
