"""What the read model answers with: frozen records, in the words of the tables. Durations in seconds, times aware (UTC)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from carafe.jobs.audit import AuditRecord
from carafe.jobs.job_logs import LogLine
from carafe.jobs.records import AttemptRecord, Count, JobRecord
from carafe.jobs.states import State

Severity = Literal["info", "warning", "critical"]
Range = Literal["5m", "1h", "24h", "7d"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that a person should look at, in words with numbers, and the page that helps.

    `key` names the condition (stable, for tests and tools), `path` is relative to the dashboard's root.
    """

    key: str
    severity: Severity
    text: str
    path: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the last minute: per second, and percentiles in seconds from merged histograms (None: nothing ended)."""

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
    """The state of everything at one moment of Postgres's clock."""

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
    """Why Redis cannot be used, in words; None: it can."""
    rates: Rates
    drain_seconds: float | None
    """Until the backlog is worked off at the rate of the last minute; None: it does not shrink, or there is none."""
    growing: float
    """By how many jobs a second the backlog grows (negative: it shrinks)."""
    attention: tuple[Attention, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a chart; None where nothing was sampled (a gap, never a zero)."""

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
    """What happened at a moment of a chart: deploy, paused, resumed, scaled, bulk."""

    at: datetime
    kind: Literal["deploy", "paused", "resumed", "scaled", "bulk"]
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """The charts' points, oldest first, evenly `step` seconds apart from `since` to `until`."""

    range: Range
    since: datetime
    until: datetime
    step: float
    points: tuple[Point, ...]
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job in a list. `error` is the first line, at most 200 characters; `duration` of its last run, once ended."""

    id: UUID
    kind: str
    state: State
    attempt: int
    max_attempts: int
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration: float | None
    progress: float | None
    error_class: str | None
    error: str | None
    worker: UUID | None
    resolved: bool
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class JobsPage:
    """A page of jobs, newest first. `searched_to`: the filter has no index and was tried on the newest rows down to then;
    `next_cursor` goes on from there."""

    jobs: tuple[JobRow, ...]
    next_cursor: str | None
    searched_to: datetime | None


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a job's life, for its timeline."""

    at: datetime
    what: Literal["created", "due", "started", "failed", "retried", "ended", "cancel requested", "resolved", "acted", "now"]
    text: str


@dataclass(frozen=True, slots=True)
class JobView:
    """All that is known of one job. `waiting` says in one sentence why it does not run (None: it does not wait).

    `secrets` are the names of the arguments whose values are redacted in `job.args`.
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
    version: str
    """Changes whenever anything of this record may have changed."""


@dataclass(frozen=True, slots=True)
class DeadGroup:
    """Unresolved dead jobs of one kind with one fingerprint; `example` is the newest one's."""

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
    """The groups, largest first, as they were at `at` (at most 5 s old)."""

    at: datetime
    groups: tuple[DeadGroup, ...]
    total: Count


@dataclass(frozen=True, slots=True)
class Running:
    """What a worker runs, and for how many seconds."""

    id: UUID
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker. `heartbeat_age` in seconds; `pod` and `node` empty outside a cluster; `running` at most 100 entries."""

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
    """A worker's pod that is wanted and has no worker yet, with why."""

    name: str
    phase: str
    trouble: str
    since: datetime | None
    restarts: int
    last_death: str


@dataclass(frozen=True, slots=True)
class Workers:
    """Live workers, those that went in the last hour, and pods that are not there yet; `cut`: there are more workers."""

    live: tuple[WorkerView, ...]
    gone: tuple[WorkerView, ...]
    pods: tuple[PodView, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Audit rows, newest first."""

    rows: tuple[AuditRecord, ...]
    next_cursor: str | None
