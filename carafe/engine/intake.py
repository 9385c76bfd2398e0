"""How much a worker takes: the consumer's side of the engine (DESIGN.md rule 5).

Room is what the free slots can start now, plus about 100 ms of work; what a pop brought too much goes back unclaimed. Called
by the consumer's thread, but for the few methods that say otherwise.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from carafe.engine.ledger import Hinted
from carafe.engine.pace import HORIZON, ROUNDING, Pace
from carafe.engine.slot import Slot

MAX_POP = 1000
"""Hints in one pop at most."""

UNWRITTEN = 5000
"""Ends that may wait to be written before the worker takes no more."""


class Load(Protocol):
    """What the intake must know of the engine."""

    slots: list[Slot]

    @property
    def unwritten(self) -> int:
        """Ends that wait to be written."""
        ...

    @property
    def without_postgres(self) -> bool:
        """Whether what was taken now could not be claimed or begun."""
        ...


class Intake:
    """Counts what was taken and what is done with, and says how much more to take."""

    def __init__(self, load: Load, pace: Pace, kinds: Sequence[str], counts: Counter[str], wake: Callable[[], None]) -> None:
        """`wake` lets the consumer look again whether there is room."""
        self._load, self._pace, self._counts, self._wake = load, pace, counts, wake
        self._known = frozenset(kinds)
        self.inbox: deque[Hinted] = deque()
        self.foreign: list[Hinted] = []
        self.closed = True
        self.held_up = False
        """Nothing can be begun at the moment: a handler holds the loop on which jobs begin."""
        # Each written by one thread only, so that no lock is needed.
        self._taken = 0
        self._settled = 0
        self._starved = False

    @property
    def in_hand(self) -> int:
        """Hints taken and not yet done with, running jobs included."""
        return self._taken - self._settled

    def room(self) -> int:
        """How many hints to take now at most."""
        if self.closed or self.held_up or self._load.unwritten > UNWRITTEN or self._load.without_postgres:
            return self._no_room()
        free, budget = self._prospect()
        count = max(free, self._pace.count(budget)) - self._waiting(free)
        return min(MAX_POP, count) if count > 0 else self._no_room()

    def _no_room(self) -> int:
        self._starved = True
        return 0

    def _prospect(self) -> tuple[int, float]:
        """Slots free now, and the seconds of slot time that come free within the horizon."""
        now = time.monotonic()
        slots = self._load.slots
        running = [(claim.kind, claim.started) for slot in slots if (claim := slot.claim) is not None]
        free = len(slots) - len(running)
        return free, free * HORIZON + self._pace.budget(running, now)

    def _waiting(self, free: int) -> int:
        """Hints in hand that no slot has begun."""
        begun = len(self._load.slots) - free + self._load.unwritten
        return max(0, self._taken - self._settled - begun)

    def take(self, batch: Sequence[Hinted]) -> Sequence[Hinted]:
        """Accept hints in the order popped; returns those that are too much, to be pushed back."""
        accepted = self._accepted(batch)
        taken, rest = batch[:accepted], batch[accepted:]
        self._counts["hints pushed back"] += len(rest)
        self._taken += accepted
        if self._known.issuperset([hint.kind for hint in taken]):
            self.inbox.extend(taken)
        else:
            self.inbox.extend([hint for hint in taken if hint.kind in self._known])
            self.foreign.extend([hint for hint in taken if hint.kind not in self._known])
        return rest

    def _accepted(self, batch: Sequence[Hinted]) -> int:
        """How many of a batch to keep: what free slots can start, then what fits into the horizon by each kind's pace."""
        if self.closed or self._load.without_postgres:
            return 0
        free, budget = self._prospect()
        waiting = self._waiting(free)
        budget += ROUNDING - self._pace.total(waiting)
        free = max(0, free - waiting)
        # Kinds that are not ours are left to others at no cost.
        costs = {kind: self._pace.cost(kind) if kind in self._known else 0.0 for kind in {hint.kind for hint in batch}}
        if len(batch) * max(costs.values()) <= budget:
            return len(batch)
        for index, hint in enumerate(batch):
            cost = costs[hint.kind]
            if index >= free and cost > budget:
                return index
            budget -= cost
        return len(batch)

    # -- the engine's loop

    def withdraw(self) -> list[Hinted]:
        """Take back the hints that no claim has begun; they count as done with."""
        hints = list(self.inbox)
        self.inbox.clear()
        self.settle(len(hints))
        return hints

    def settle(self, count: int) -> None:
        """So many hints are done with: there is room for others."""
        self._settled += count
        self.maybe_wake()

    def maybe_wake(self) -> None:
        """Wake the consumer if it has been refused."""
        if self._starved and not self.closed:
            self._starved = False
            self._wake()
