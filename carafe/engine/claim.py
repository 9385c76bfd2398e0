"""A claimed job and its attempt, and how the attempt is stopped.

The claim, not the slot, holds everything that belongs to one attempt. So code that stops an attempt, from any thread, can
never stop the next attempt in the same slot.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from carafe.engine.log_tail import Tail
    from carafe.jobs.hiding import Hiding
    from carafe.tracing.attempts import Traced


Stop = Literal["timeout", "cancelled", "drain", "lost"]


class Running(Protocol):
    """The task, or the call in a thread, in which an attempt runs."""

    def done(self) -> bool:
        """Returns whether the task or the call has ended."""
        ...

    def stop(self) -> None:
        """Stop the task or the call, if that is possible. Never raises."""
        ...

    def where(self) -> list[str]:
        """Returns the lines of code at which the task or the call is now, the innermost last. Callable from any thread;
        never raises."""
        ...


Held = Callable[[], Callable[[], None] | None]
"""A connection that a handler has taken, as a function. A call returns a function that closes the connection, or None if the
handler has given the connection back."""


class Claim:
    """A claimed job that this worker holds.

    About the job: `row` is the row that claim.sql returned; `raw` is the hint as bytes, which is pushed back if the job is
    not started (empty: there is no hint); `claimed` is when the claim was made, in monotonic seconds.

    About its attempt:
    `started` and `deadline`: when the attempt began and when its time is over, in monotonic seconds
    `stop`: why the attempt was asked to stop; None if it was not asked
    `stop_with`: the function that stops the attempt; None if `task.stop` does
    `where_apart`: the function that returns where the attempt's child process is, or None while that has not answered; None
    if `task.where` knows
    `task`: the task or the call in a thread in which the attempt runs
    `left`: the tasks that the handler has made
    `connections`: the connections to Postgres that the handler has taken (see `handler_connections`)
    `completes`: whether the handler's own transaction is committing the job's end; if so, the claim is not lost although the
    job's row no longer has the state `running`
    `memory`: for a suspect, the bytes by which its child process may grow; None if there is no limit
    `hiding`: replaces the job's secrets in texts; None when the job has none
    `tail`: the last lines that the handler has logged; None when it has logged nothing
    `traced`: the attempt's span; None when it has none
    `spares`: whether it has been logged that the handler tried to cancel tasks that are not its own
    `disowned`: whether it has been logged that the job no longer belongs to this worker
    `over`: whether the attempt has ended
    """

    __slots__ = (
        "attempt",
        "claimed",
        "completes",
        "connections",
        "deadline",
        "disowned",
        "fence",
        "hiding",
        "id",
        "kind",
        "left",
        "memory",
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
        "where_apart",
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
        self.over = self.spares = self.completes = self.disowned = False
        self.stop: Stop | None = None
        self.stop_with: Callable[[Stop], None] | None = None
        self.where_apart: Callable[[], list[str] | None] | None = None
        self.task: Running | None = None
        self.memory: int | None = None
        self.left: list[asyncio.Task[Any]] | None = None
        self.connections: list[Held] | None = None
        self.hiding: Hiding | None = None
        self.tail: Tail | None = None
        self.traced: Traced | None = None

    @property
    def is_last(self) -> bool:
        """Whether this is the job's last attempt."""
        return self.attempt >= int(self.row["max_attempts"])

    @property
    def trace_id(self) -> str | None:
        """The id of the attempt's trace, in hex; None when the attempt is not traced."""
        return None if self.traced is None else self.traced.trace_id

    def ask_to_stop(self, why: Stop) -> None:
        """Ask the handler to stop. If it is asked several times, the first reason counts. When `stop_with` is None, this may
        be called only on the loop that runs the handler."""
        if self.over:
            return
        if self.stop is None:
            self.stop = why
        if self.stop_with is not None:
            self.stop_with(self.stop)
        elif self.task is not None:
            self.task.stop()
