"""The frozen records that the read model returns. Their fields are named as the columns of the tables. Durations are in
seconds; times are aware (UTC)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from carafe.jobs.records import AttemptRecord, Count, JobRecord, StackRecord
from carafe.jobs.states import State
from carafe.store.audit import AuditRecord
from carafe.store.job_logs import LogLine

Severity = Literal["info", "warning", "critical"]
Range = Literal["5m", "1h", "24h", "7d"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that a person should look at.

    `text` is a sentence with numbers that says what it is. `key` names the condition (stable, for tests and tools). `path`
    is the page that helps, relative to the dashboard's root. `since` is when the condition began, if known.
    """

    key: str
    severity: Severity
    text: str
    path: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened in the last minute. Rates are in jobs per second. Percentiles of wait and run times are in seconds, from
    merged histograms; None when no job ended."""

    arrived: float
    succeeded: float
    dead: float
    retried: float
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the whole system at one moment of Postgres's clock."""

    at: datetime
    counts: Mapping[State, Count]
    oldest_wait: float
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    workers: int
    draining: int
    slots: int
    slots_used: int
    replicas_wanted: int | None
    replicas_there: int | None
    leader: str | None
    redis: str | None
    """A text that says why Redis cannot be used; None when it can."""
    rates: Rates
    drain_seconds: float | None
    """Seconds until the backlog is empty at its present rate; None when the backlog does not shrink or is empty."""
    held: Count
    """The number of queued jobs whose kind is paused; they are counted among the queued ones, too."""
    growing: float
    """By how many jobs a second the backlog grows; negative when it shrinks."""
    attention: tuple[Attention, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One step of a chart. A value is None where nothing was sampled: a gap, never a zero."""

    at: datetime
    queued: float | None
    running: float | None
    oldest_wait: float | None
    dead: float | None
    slots: float | None
    workers: float | None
    wanted: float | None
    succeeded_rate: float | None
    dead_rate: float | None
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


@dataclass(frozen=True, slots=True)
class Marker:
    """An event at a moment of a chart: a deploy, a pause, a resume, a change of the number of workers, or a bulk action."""

    at: datetime
    kind: Literal["deploy", "paused", "resumed", "scaled", "bulk"]
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """The charts' points, oldest first and `step` seconds apart from `since` to `until`, and the markers on them."""

    range: Range
    since: datetime
    until: datetime
    step: float
    points: tuple[Point, ...]
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a job's life, for its timeline."""

    at: datetime
    what: Literal["created", "due", "started", "failed", "retried", "ended", "cancel requested", "resolved", "acted", "now"]
    text: str


@dataclass(frozen=True, slots=True)
class JobView:
    """Everything that is known about one job. `waiting` says in one sentence why the job does not run; None when it does not
    wait.

    `secrets` has the names of the arguments whose values are redacted in `job.args`. `origin` is the job from which this one
    was made by "edit and run".
    """

    job: JobRecord
    secrets: tuple[str, ...]
    trace: str | None
    fingerprint: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolved_reason: str | None
    worker_name: str | None
    worker_alive: bool
    waiting: str | None
    attempts: tuple[AttemptRecord, ...]
    timeline: tuple[Moment, ...]
    logs: tuple[LogLine, ...]
    logs_cut: bool
    origin: UUID | None
    stack: StackRecord | None
    """The answer of the job's worker to the question where the job is; None if nobody has asked about this attempt."""
    version: str
    """A text that changes whenever anything in this record may have changed."""


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Unresolved dead jobs of one kind with one fingerprint. `example` is the id of the newest of them, `error` its
    error."""

    kind: str
    fingerprint: str
    error_class: str | None
    error: str
    count: Count
    first_at: datetime
    last_at: datetime
    example: UUID


@dataclass(frozen=True, slots=True)
class DeadGroups:
    """The groups of unresolved dead jobs, largest first, as they were at `at` (at most 5 s ago). `total` counts all these
    jobs.
    """

    at: datetime
    groups: tuple[DeadGroup, ...]
    total: Count


@dataclass(frozen=True, slots=True)
class Running:
    """A job that a worker runs, and the number of seconds for which it has run."""

    id: UUID
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker. `heartbeat_age` is in seconds. `pod` and `node` are empty outside a cluster. `running` has at most 100
    jobs."""

    id: UUID
    name: str
    host: str
    pid: int
    version: str
    state: Literal["running", "draining", "stopped", "lost"]
    drain_requested: bool
    concurrency: int
    slots_used: int
    running: tuple[Running, ...]
    heartbeat_age: float
    started_at: datetime
    pod: str
    node: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod that should have a worker and has none yet. `trouble` says why."""

    name: str
    phase: str
    trouble: str
    since: datetime | None
    restarts: int
    last_death: str


@dataclass(frozen=True, slots=True)
class Workers:
    """Live workers, workers that stopped or were lost in the last hour, and pods without a worker yet. `cut` says that there
    are more workers than are listed."""

    live: tuple[WorkerView, ...]
    gone: tuple[WorkerView, ...]
    pods: tuple[PodView, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the audit, newest first. `next_cursor` is the cursor of the next page; None for the last page."""

    rows: tuple[AuditRecord, ...]
    next_cursor: str | None
