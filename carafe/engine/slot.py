"""One slot of the runner and the claim that it runs: since when, and how it is told to stop.

What belongs to one attempt stands on its claim, not on the slot: whoever wants to stop an attempt, from whatever thread,
can never reach the one that follows it.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from carafe.engine.captured_logs import Tail
    from carafe.engine.handler_connections import Held
    from carafe.engine.hiding import Hiding
    from carafe.tracing.attempts import Traced

Stop = Literal["timeout", "cancelled", "drain", "lost"]


class Running(Protocol):
    """What an attempt runs in: its task, or its work in a thread."""

    def done(self) -> bool:
        """Whether it is over."""
        ...

    def stop(self) -> None:
        """Stop it, if that can be done; never raises."""
        ...


class Claim:
    """A claimed job in hand: the row of claim.sql, the hint's own bytes to push back if it is not started, `tail`, the
    last that its handler has logged (None: nothing), and `traced`, its span once it runs (None: none).

    Of its attempt: `started` and `deadline` in monotonic seconds, `stop`, why it was asked to stop, `stop_with`, how that
    is done (None: by `task` itself), `left`, the tasks that its handler has made, `connections`, those to Postgres that it
    has taken (see `handler_connections`), `completes`, once the commit of its handler's own transaction is under way: that
    its row runs no longer says nothing then, `hiding`, which replaces its secrets (None: it has none), `spares`, once the
    log has said that it has tried to cancel others' tasks, and `over`, once its end is made.
    """

    __slots__ = (
        "attempt",
        "claimed",
        "completes",
        "connections",
        "deadline",
        "fence",
        "hiding",
        "id",
        "kind",
        "left",
        "over",
        "raw",
        "row",
        "spares",
        "started",
        "stop",
        "stop_with",
        "suspect",
        "tail",
        "task",
        "traced",
    )

    def __init__(self, row: Any, raw: bytes, claimed: float) -> None:
        self.row = row
        self.id: UUID = row["id"]
        self.kind: str = row["kind"]
        self.fence: int = row["fence"]
        self.attempt: int = row["attempt"] + 1
        self.suspect: bool = row["suspect"]
        self.raw = raw
        self.claimed = claimed
        self.started = self.deadline = float("inf")
        self.over = self.spares = self.completes = False
        self.stop: Stop | None = None
        self.stop_with: Callable[[Stop], None] | None = None
        self.task: Running | None = None
        self.left: list[asyncio.Task[Any]] | None = None
        self.connections: list[Held] | None = None
        self.hiding: Hiding | None = None
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

    def ask_to_stop(self, why: Stop) -> None:
        """Tell its handler to stop; the first reason is the one that counts. Only on the loop that runs it when `stop_with`
        is None."""
        if self.over:
            return
        if self.stop is None:
            self.stop = why
        if self.stop_with is not None:
            self.stop_with(self.stop)
        elif self.task is not None:
            self.task.stop()


class Slot:
    """Runs one job at a time: `claim`, or None."""

    __slots__ = ("claim", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.claim: Claim | None = None
