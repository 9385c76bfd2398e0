"""Keeps how long jobs of each kind have taken recently, and estimates from that how many jobs a worker may take (docs/design
rule 5).

A worker takes what it can start now, plus at most about 100 ms of work. If the run time of a kind is unknown, it takes a job
only for a free slot: the autoscaler does not see hints that a worker has taken, so it is better to take too few than too
many.
"""

import time
from collections.abc import Iterable

HORIZON = 0.1
"""A worker takes at most this many seconds of work beyond what its free slots can start."""

FLOOR = HORIZON / 2500
"""A worker with all its slots is assumed to need at least this many seconds for each job. So it takes at most 2,500 jobs at
a time, even if they do nothing."""

WEIGHT = 0.1
"""The weight of the newest run in the moving average of its kind. But a run that is much longer than the average becomes the
average at once."""

ROUNDING = 1e-6
"""Tolerance in seconds for sums of times, so that jobs which fit exactly are not rejected because of a rounding error."""


class Pace:
    """Moving averages of run times by kind. Written by the runner's thread, read by the consumer's."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._floor = FLOOR * slots
        self._average: dict[str, float] = {}
        self._typical = HORIZON

    def observe(self, kind: str, seconds: float) -> None:
        """Record that a job of this kind took `seconds` to run, or has run that long and is still running."""
        average = self._average.get(kind)
        if average is None or seconds > 4 * average + HORIZON / 4:
            average = seconds
        else:
            # A single run that the other thread delayed must not make jobs look longer than the shortest one.
            average += WEIGHT * min(seconds - average, average + self._floor)
        self._average[kind] = average
        self._typical += WEIGHT * (average - self._typical)

    def cost(self, kind: str) -> float:
        """Returns the number of seconds for which a job of this kind is expected to occupy its slot. Returns `HORIZON` for a
        kind that has not run yet."""
        average = self._average.get(kind)
        return HORIZON if average is None else max(average, self._floor)

    def budget(self, running: Iterable[tuple[str, float]], now: float) -> float:
        """Returns the free time that the slots which run a job now are expected to have within the next `HORIZON` seconds,
        in seconds and summed over these slots. `running` has the kind and the start of each such job, `now` the present,
        both in monotonic seconds.

        A run longer than its kind's average is expected to take as long again as it already has.
        """
        total = 0.0
        for kind, started in running:
            elapsed = now - started
            average = self._average.get(kind, HORIZON)
            remaining = average - elapsed if elapsed < average else elapsed
            if remaining < HORIZON:
                total += HORIZON - remaining
        return total

    def count(self, budget: float) -> int:
        """Returns about how many jobs fit into `budget` seconds of free slot time, if kinds are mixed as in recent jobs."""
        return int((budget + ROUNDING) / max(self._typical, self._floor))

    def total(self, count: int) -> float:
        """Returns the total run time, in seconds, that is expected of `count` jobs, if kinds are mixed as in recent jobs."""
        return count * max(self._typical, self._floor)


def now() -> float:
    """Returns the time by the clock that all run times here use: monotonic seconds."""
    return time.monotonic()
