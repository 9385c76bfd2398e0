"""Decides how many hints a worker takes (docs/design rule 5).

This number is called the room: the jobs that the free slots can start now, plus about 100 ms of work. If more hints than
that were popped, the others are pushed back unclaimed. The consumer's thread calls the methods, except `withdraw`, `settle`
and `maybe_wake`, which the engine's event loop calls.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence, Set

from carafe.engine.ledger import Hinted
from carafe.engine.runtimes import HORIZON, ROUNDING, Pace
from carafe.engine.slot import Slot

MAX_POP = 1000
"""The maximum number of hints in one pop."""

UNWRITTEN = 5000
"""If more ended jobs than this wait until their end is written, the worker takes no hints."""


class Intake:
    """Counts the hints in hand (taken, but not yet settled), and decides how many more to take."""

    def __init__(
        self,
        slots: Sequence[Slot],
        pace: Pace,
        kinds: Sequence[str],
        counts: Counter[str],
        *,
        unwritten: Callable[[], int],
        without_postgres: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        """Three functions: `unwritten` returns how many ended jobs wait until their end is written. `without_postgres`
        returns True if jobs cannot be claimed or begun now because Postgres cannot be used. `wake` makes the consumer ask
        again how many hints it may pop."""
        self._slots, self._pace, self._counts = slots, pace, counts
        self._unwritten, self._without_postgres, self._wake = unwritten, without_postgres, wake
        self._known = frozenset(kinds)
        self.inbox: deque[Hinted] = deque()
        self.foreign: list[Hinted] = []
        self.closed = True
        self.held_up = False
        """Whether a handler blocks the event loop at the moment, so that no job can start."""
        # Each written by one thread only, so that no lock is needed.
        self._taken = 0
        self._settled = 0
        self._starved = False

    @property
    def in_hand(self) -> int:
        """The number of hints that were taken and are not settled yet, including those of running jobs."""
        return self._taken - self._settled

    def room(self) -> int:
        """Returns how many hints the worker may take now."""
        if self.closed or self.held_up or self._unwritten() > UNWRITTEN or self._without_postgres():
            return self._no_room()
        free, budget = self._prospect()
        count = max(free, self._pace.count(budget)) - self._waiting(free)
        return min(MAX_POP, count) if count > 0 else self._no_room()

    def _no_room(self) -> int:
        self._starved = True
        return 0

    def _prospect(self) -> tuple[int, float]:
        """Returns how many slots are free now, and how many seconds of work all slots together can do within the next
        `HORIZON` seconds.
        """
        now = time.monotonic()
        slots = self._slots
        running = [(claim.kind, claim.started) for slot in slots if (claim := slot.claim) is not None]
        free = len(slots) - len(running)
        return free, free * HORIZON + self._pace.budget(running, now)

    def _waiting(self, free: int) -> int:
        """Returns how many hints in hand belong to jobs that no slot has begun."""
        begun = len(self._slots) - free + self._unwritten()
        return max(0, self._taken - self._settled - begun)

    def take(self, batch: Sequence[Hinted]) -> Sequence[Hinted]:
        """Accept hints in the order in which they were popped. Returns those that were not accepted, for the caller to push
        back."""
        kinds = {hint.kind for hint in batch}
        accepted = self._accepted(batch, kinds)
        taken, rest = (batch, ()) if accepted == len(batch) else (batch[:accepted], batch[accepted:])
        self._counts["hints pushed back"] += len(rest)
        self._taken += accepted
        if kinds <= self._known:
            self.inbox.extend(taken)
        else:
            self.inbox.extend([hint for hint in taken if hint.kind in self._known])
            self.foreign.extend([hint for hint in taken if hint.kind not in self._known])
        return rest

    def _accepted(self, batch: Sequence[Hinted], kinds: Set[str]) -> int:
        """Returns how many hints of a batch to keep: one for each free slot, then as many as fit into `HORIZON` seconds by
        the usual run times of their kinds."""
        if self.closed or self._without_postgres():
            return 0
        free, budget = self._prospect()
        waiting = self._waiting(free)
        budget += ROUNDING - self._pace.total(waiting)
        free = max(0, free - waiting)
        # Kinds without a handler here are left to other workers at no cost.
        costs = {kind: self._pace.cost(kind) if kind in self._known else 0.0 for kind in kinds}
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
        """Remove and return the hints whose jobs are not being claimed yet. These hints then count as settled."""
        hints = list(self.inbox)
        self.inbox.clear()
        self.settle(len(hints))
        return hints

    def settle(self, count: int) -> None:
        """Record that `count` more hints are settled, because their jobs have ended or were queued again. So there is room
        for other hints."""
        self._settled += count
        self.maybe_wake()

    def maybe_wake(self) -> None:
        """Wake the consumer if it was told that there is no room."""
        if self._starved and not self.closed:
            self._starved = False
            self._wake()
