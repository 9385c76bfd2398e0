"""One slot of the runner: what it runs, since when, and how it is told to stop."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from carafe.engine.captured_logs import Tail
    from carafe.tracing.attempts import Traced

Stop = Literal["timeout", "cancelled", "drain", "lost"]


class Claim:
    """A claimed job in hand: the row of claim.sql, the hint's own bytes to push back if it is not started, `tail`, the
    last that its handler has logged (None: nothing), and `traced`, its span once it runs (None: none)."""

    __slots__ = ("attempt", "claimed", "fence", "id", "kind", "raw", "row", "suspect", "tail", "traced")

    def __init__(self, row: Any, raw: bytes, claimed: float) -> None:
        self.row = row
        self.id: UUID = row["id"]
        self.kind: str = row["kind"]
        self.fence: int = row["fence"]
        self.attempt: int = row["attempt"] + 1
        self.suspect: bool = row["suspect"]
        self.raw = raw
        self.claimed = claimed
        self.tail: Tail | None = None
        self.traced: Traced | None = None

    @property
    def is_last(self) -> bool:
        """Whether no attempt is left after this one."""
        return self.attempt >= int(self.row["max_attempts"])

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, in hex; None when it has none."""
        return None if self.traced is None else self.traced.trace_id


class Slot:
    """Runs one job at a time. `stop_with` is how the running handler is stopped, which depends on its mode."""

    __slots__ = ("claim", "deadline", "index", "started", "stop", "stop_with", "stops", "task")

    def __init__(self, index: int) -> None:
        self.index = index
        self.claim: Claim | None = None
        self.started = 0.0
        self.deadline = float("inf")
        self.stop: Stop | None = None
        self.stops = 0
        self.stop_with: Callable[[Stop], None] | None = None
        self.task: asyncio.Task[None] | None = None

    def ask_to_stop(self, why: Stop) -> None:
        """Tell the running handler to stop; the first reason is the one that counts. Runner's loop only."""
        if self.claim is None:
            return
        if self.stop is None:
            self.stop = why
        if self.stop_with is not None:
            self.stop_with(self.stop)
        elif self.task is not None:
            self.stops += 1
            self.task.cancel()

    def task_is_cancelled(self) -> bool:
        """Whether the slot's own task is being ended, as opposed to a handler that raised CancelledError by itself."""
        return self.task is not None and self.task.cancelling() > self.stops

    def free(self) -> None:
        """The job is over: take back the cancellations that were meant for its handler."""
        self.claim = None
        self.stop = None
        self.stop_with = None
        while self.stops:
            assert self.task is not None
            self.task.uncancel()
            self.stops -= 1
