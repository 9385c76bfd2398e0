"""The metrics that a worker shows Prometheus about its engine. They are read from the engine at each scrape."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from carafe.jobs.queue_name import QUEUE
from carafe.telemetry import metrics
from carafe.telemetry.instruments import Labels

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

HINTS = {
    "hints dropped": "stale",
    "hints malformed": "malformed",
    "hints of foreign kinds": "foreign",
    "hints pushed back": "pushed_back",
}
"""For each of the engine's counts of hints: its name, and the value of the label `outcome` under which the metric shows
it."""


def expose_engine(engine: "Engine") -> Callable[[], None]:
    """Add the engine's numbers to this process's metrics. Returns a function that removes them again."""
    metrics.expect(engine.kinds)
    stops = [
        metrics.SLOTS.follow(lambda: {metrics.QUEUED: engine.concurrency}),
        metrics.SLOTS_USED.follow(lambda: {metrics.QUEUED: engine.concurrency - engine.runner.free}),
        metrics.SLOTS_FREE.follow(lambda: {metrics.QUEUED: 0 if engine.draining else engine.runner.free}),
        metrics.IN_HAND.follow(lambda: {metrics.QUEUED: engine.in_hand}),
        metrics.HINTS.follow(lambda: _hints(engine.counts)),
    ]

    def stop() -> None:
        for end in stops:
            end()

    return stop


def _hints(counts: Counter[str]) -> dict[Labels, float]:
    return {(QUEUE, outcome): counts[name] for name, outcome in HINTS.items()}
