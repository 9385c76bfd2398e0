"""What a worker exposes to Prometheus, read from the engine's own counters at scrape time."""

from typing import TYPE_CHECKING

from carafe.jobs.hints import QUEUE
from carafe.metrics import Metric, expose

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

HINTS = {
    "hints dropped": "stale",
    "hints malformed": "malformed",
    "hints of foreign kinds": "foreign",
    "hints pushed back": "pushed_back",
}


def expose_engine(engine: "Engine") -> None:
    """Expose one worker's engine (a process has one)."""
    expose(
        Metric(
            "carafe_jobs_finished_total",
            "Attempts of jobs that this worker has ended, by outcome (retrying counts a failed attempt).",
            "counter",
            ("queue", "kind", "outcome"),
            lambda: {(QUEUE, kind, outcome): count for (kind, outcome), count in list(engine.ledger.finished.items())},
        ),
        Metric(
            "carafe_hints_total",
            "Hints that did not lead to a claim here, by what became of them.",
            "counter",
            ("queue", "outcome"),
            lambda: {(QUEUE, word): engine.counts[name] for name, word in HINTS.items()},
        ),
        Metric(
            "carafe_stale_writes_total",
            "Ends that changed nothing, because the job was no longer owned under that fence.",
            "counter",
            ("queue",),
            lambda: {(QUEUE,): engine.ledger.counts["stale"]},
        ),
        Metric("carafe_slots", "Slots of this worker.", "gauge", ("queue",), lambda: {(QUEUE,): engine.concurrency}),
        Metric(
            "carafe_slots_used",
            "Slots that run a job now.",
            "gauge",
            ("queue",),
            lambda: {(QUEUE,): engine.concurrency - engine.runner.free},
        ),
        Metric(
            "carafe_jobs_in_hand",
            "Hints taken and not yet done with, running jobs included.",
            "gauge",
            ("queue",),
            lambda: {(QUEUE,): engine.in_hand},
        ),
    )
