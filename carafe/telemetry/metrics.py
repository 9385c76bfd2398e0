"""Every metric that Carafe exports, from web processes and workers: only this module has the names, help, labels and
buckets.

Labels are queue, kind and outcome only. A label with a pod's name would make too many series under autoscaling, and
Prometheus itself adds a label for the process that it scrapes. Units are seconds and counts. Counts are per process and add
up over processes. Values of the whole installation (`LED`) are exported by the leading steward only; in a query, wrap them
in ``max by (queue) (…)``.

Over all processes, `carafe_jobs_started_total` equals the sum of `carafe_jobs_finished_total` over its outcomes, plus the
jobs that run now and the jobs of lost workers (`carafe_jobs_rescued_total` counts those).
"""

from carafe.jobs.queue_name import QUEUE
from carafe.telemetry.instruments import Counter, Gauge, Histogram, registry

__all__ = ["registry"]

BOUNDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
)
"""Upper bounds, in seconds, of the buckets for waits (from due to start) and runs (from start to end). In the statistics in
Postgres, bucket n counts the times below BOUNDS[n] that no earlier bucket counts."""

BATCH_BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000)
"""Upper bounds of the buckets for the number of jobs in one statement."""

ATTEMPT_BOUNDS = (1, 2, 3, 4, 5, 7, 10, 20)
"""Upper bounds of the buckets for the attempts of one job. A job has four by default."""

STATEMENT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of the buckets for one statement. Most statements take some milliseconds, and none takes more
than ten seconds."""

QUEUED = (QUEUE,)
"""The label values of a metric whose only label is the queue."""

# Getting in: counted where jobs are enqueued.

ACCEPTED = Counter(
    "carafe_jobs_accepted_total",
    "Jobs that this process has stored. A request does not count if its key found an existing job.",
    ("queue", "kind"),
)
ENQUEUE_SECONDS = Histogram(
    "carafe_enqueue_duration_seconds",
    "Time that an enqueue (of one job or a bulk) waited for Postgres, its commit included.",
    ("queue", "outcome"),
    STATEMENT_BOUNDS,
)
ENQUEUE_JOBS = Histogram("carafe_enqueue_batch_jobs", "Jobs in one enqueue.", ("queue",), BATCH_BOUNDS)
HINTS_UNPUSHED = Counter(
    "carafe_hints_unpushed_total",
    "Hints that Redis did not take; their jobs are accepted and start when the steward pushes the hints again.",
    ("queue",),
)

# Running: counted by workers.

STARTED = Counter("carafe_jobs_started_total", "Claims: each is the start of an attempt.", ("queue", "kind"))
WAIT_SECONDS = Histogram(
    "carafe_job_wait_seconds", "Time from when a job was due until it was claimed.", ("queue", "kind"), BOUNDS
)
FINISHED = Counter(
    "carafe_jobs_finished_total",
    "Claims that are over, by outcome: succeeded, dead, cancelled; retrying (a failed attempt with others left); snoozed;"
    " drained (started, and handed back at no cost); returned (never started).",
    ("queue", "kind", "outcome"),
)
OUTCOMES = ("succeeded", "retrying", "dead")
"""Outcomes whose counters show 0 before anything was counted, so that Prometheus's ``rate()`` sees the first rise."""

RUN_SECONDS = Histogram(
    "carafe_job_run_seconds", "Time that an attempt ran, whatever its outcome.", ("queue", "kind"), BOUNDS
)
ATTEMPTS = Histogram(
    "carafe_job_attempts", "Attempts that a job has spent when it succeeds or is dead.", ("queue", "kind"), ATTEMPT_BOUNDS
)
CLAIM_SECONDS = Histogram(
    "carafe_claim_duration_seconds", "Time that a claim of a batch waited for Postgres.", ("queue",), STATEMENT_BOUNDS
)
CLAIM_JOBS = Histogram("carafe_claim_batch_jobs", "Hints in one claim.", ("queue",), BATCH_BOUNDS)
END_SECONDS = Histogram(
    "carafe_end_duration_seconds", "Time that writing a group of ends waited for Postgres.", ("queue",), STATEMENT_BOUNDS
)
END_JOBS = Histogram("carafe_end_batch_jobs", "Ends that were written together.", ("queue",), BATCH_BOUNDS)
HINTS = Counter(
    "carafe_hints_total",
    "Hints that led to no claim here: stale, malformed and foreign (of a kind that this worker does not know) are dropped;"
    " pushed_back were more than this worker could start.",
    ("queue", "outcome"),
)
STALE_WRITES = Counter(
    "carafe_stale_writes_total",
    "Ends that changed nothing, because the job was no longer owned under that fence.",
    ("queue",),
)
SLOTS = Gauge("carafe_slots", "Slots of this worker.", ("queue",), merged="sum")
SLOTS_USED = Gauge("carafe_slots_used", "Slots of this worker that run a job.", ("queue",), merged="sum")
SLOTS_FREE = Gauge("carafe_slots_free", "Slots of this worker that run nothing.", ("queue",), merged="sum")
IN_HAND = Gauge("carafe_jobs_in_hand", "Hints in hand, including those of running jobs.", ("queue",), merged="sum")

# The upkeep: counted by the process that leads at the time.

PROMOTED = Counter("carafe_jobs_promoted_total", "Jobs that became due and were queued.", ("queue", "kind"))
RESCUED = Counter(
    "carafe_jobs_rescued_total",
    "Jobs taken from workers that were lost, by what became of them: queued, dead or cancelled.",
    ("queue", "kind", "outcome"),
)
WORKERS_LOST = Counter("carafe_workers_lost_total", "Workers that were lost: their heartbeats stopped without notice.")
HINTS_REPAIRED = Counter(
    "carafe_hints_repaired_total",
    "Hints that were pushed again, because Redis had lost them or never received them.",
    ("queue",),
)

# Of this process.

LEADER = Gauge("carafe_steward_leader", "Whether this process leads the upkeep (1) or could lead it (0).")
LOOP_LAG = Gauge("carafe_loop_lag_seconds", "The greatest lag of this process's event loop in the last 15 to 30 seconds.")
POSTGRES_UP = Gauge(
    "carafe_postgres_up",
    "Whether this process can use Postgres (1) or not (0): a Postgres that is read-only, full or locked cannot be used.",
    merged="least",
)
POSTGRES_SECONDS = Gauge("carafe_postgres_ping_seconds", "Time that the last empty statement took, connection included.")
REDIS_UP = Gauge(
    "carafe_redis_up",
    "Whether this process can use Redis (1) or not (0): a Redis that is a replica or full cannot be used.",
    merged="least",
)
REDIS_SECONDS = Gauge("carafe_redis_ping_seconds", "Time that the last check of Redis took.")

# Of the whole installation: exported by the leading steward alone.

JOBS_QUEUED = Gauge("carafe_jobs_queued", "Jobs that wait for a worker.", ("queue",))
JOBS_HELD = Gauge("carafe_jobs_held", "Queued jobs that are held back, since their kind is paused.", ("queue",))
JOBS_RUNNING = Gauge("carafe_jobs_running", "Jobs that run.", ("queue",))
JOBS_SCHEDULED = Gauge("carafe_jobs_scheduled", "Jobs that are for later.", ("queue",))
JOBS_RETRYING = Gauge("carafe_jobs_retrying", "Jobs that wait for their next attempt.", ("queue",))
JOBS_DEAD = Gauge("carafe_jobs_dead", "Dead jobs that nobody has resolved.", ("queue",))
OLDEST_WAIT = Gauge(
    "carafe_oldest_wait_seconds",
    "How long the job that waits longest has been due, of those whose kind is not paused.",
    ("queue",),
)
PAUSED = Gauge("carafe_queue_paused", "Whether the queue is paused (1).", ("queue",))
WORKERS = Gauge("carafe_workers", "Workers that are alive.")
WORKER_SLOTS = Gauge("carafe_worker_slots", "Slots of all workers that take jobs.")
VACUUM_HELD = Gauge(
    "carafe_vacuum_held_seconds",
    "How long the oldest transaction, replication slot or standby has held back vacuum (0: for a minute or less).",
)
DEAD_ROWS = Gauge("carafe_jobs_dead_rows", "Dead rows in the table of live jobs, which wait for a vacuum.")
SCALING_QUEUED = Gauge("carafe_scaling_queued", "Hints in Redis: what the autoscaler counts as waiting.", ("queue",))
SCALING_RUNNING = Gauge(
    "carafe_scaling_running", "Jobs that the autoscaler counts as running (for over a second).", ("queue",)
)
SCALING_BUSY = Gauge("carafe_scaling_busy", "Workers that the autoscaler must not remove.", ("queue",))
REDIS_NOEVICTION = Gauge(
    "carafe_redis_noeviction", "Whether Redis refuses writes when it is full (1), or evicts keys, including hints (0)."
)

LED = (
    JOBS_QUEUED,
    JOBS_HELD,
    JOBS_RUNNING,
    JOBS_SCHEDULED,
    JOBS_RETRYING,
    JOBS_DEAD,
    OLDEST_WAIT,
    PAUSED,
    WORKERS,
    WORKER_SLOTS,
    VACUUM_HELD,
    DEAD_ROWS,
    SCALING_QUEUED,
    SCALING_RUNNING,
    SCALING_BUSY,
    REDIS_NOEVICTION,
)
"""The metrics of the whole installation, which only the leading steward exports."""


def expect(kinds: "list[str]") -> None:
    """Make the counters of these kinds show 0 before anything was counted. Called in a process that may run jobs of these
    kinds."""
    for kind in kinds:
        STARTED.add((QUEUE, kind), 0)
        for outcome in OUTCOMES:
            FINISHED.add((QUEUE, kind, outcome), 0)
