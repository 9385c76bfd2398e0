"""How long jobs of each kind have taken of late, and so how much a worker may take (DESIGN.md rule 5).

A worker takes what it can start now, plus at most about 100 ms of work. What it cannot judge it takes only for a free slot:
hints in hand are hidden from the autoscaler, so a wrong guess must err towards too little.
"""

import time
from collections.abc import Iterable

HORIZON = 0.1
"""Seconds of work that a worker may hold beyond its free slots."""

FLOOR = HORIZON / 2500
"""Seconds that a job costs at least, all slots together: bounds what is in hand to 2,500 no-ops (about 100 ms of them)."""

WEIGHT = 0.1
"""The weight of the newest run in a kind's moving average; a much longer run counts at once, a shorter one slowly."""

ROUNDING = 1e-6
"""Seconds by which sums of times may be off: what fits exactly must not be refused for the last digit."""


class Pace:
    """Moving averages of run times by kind. Written by the runner's thread, read by the consumer's."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._floor = FLOOR * slots
        self._average: dict[str, float] = {}
        self._typical = HORIZON

    def observe(self, kind: str, seconds: float) -> None:
        """A run of this kind took `seconds`, or has taken so long already."""
        average = self._average.get(kind)
        if average is None or seconds > 4 * average + HORIZON / 4:
            average = seconds
        else:
            # One run that the other thread held up for a moment is no reason to take jobs for longer than the shortest.
            average += WEIGHT * min(seconds - average, average + self._floor)
        self._average[kind] = average
        self._typical += WEIGHT * (average - self._typical)

    def cost(self, kind: str) -> float:
        """Seconds of one slot's time that a job of this kind will take; unknown kinds are taken for long."""
        average = self._average.get(kind)
        return HORIZON if average is None else max(average, self._floor)

    def budget(self, running: Iterable[tuple[str, float]], now: float) -> float:
        """Seconds of slot time that come free within the horizon, of slots that run (kind, start) since monotonic times.

        A run that has outlasted its kind's average is expected to last as long again as it has.
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
        """About how many jobs of the recent mix fit into `budget` seconds."""
        return int((budget + ROUNDING) / max(self._typical, self._floor))

    def total(self, count: int) -> float:
        """Seconds of slot time that `count` jobs of the recent mix take."""
        return count * max(self._typical, self._floor)


def now() -> float:
    """The clock of all run times here: monotonic seconds."""
    return time.monotonic()
