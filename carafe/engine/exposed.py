"""What a worker shows of its engine to Prometheus, read from the engine when somebody scrapes."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from carafe import metrics
from carafe.instruments import Labels
from carafe.jobs.hints import QUEUE

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

HINTS = {
    "hints dropped": "stale",
    "hints malformed": "malformed",
    "hints of foreign kinds": "foreign",
    "hints pushed back": "pushed_back",
}
"""The engine's counts, and the outcomes that they are shown as."""


def expose_engine(engine: "Engine") -> Callable[[], None]:
    """Show one worker's engine (a process has one) until the function that this returns is called."""
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
