"""The context, which a handler gets as its second argument, after the job: the job's id and attempt, the deadline, a way to
report progress, and the transaction that ends the job."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from carafe.jobs.worker_lifespan import WorkerLifespan

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from carafe.store.database import Database


T = TypeVar("T")


class Attempt(Protocol):
    """What every handler can know about the attempt that it runs."""

    @property
    def job_id(self) -> UUID: ...
    @property
    def kind(self) -> str: ...
    @property
    def attempt(self) -> int:
        """This attempt's number, from 1."""
        ...

    @property
    def max_attempts(self) -> int: ...
    @property
    def timeout(self) -> float:
        """Seconds that this attempt may take."""
        ...

    @property
    def deadline(self) -> datetime:
        """The time at which this attempt times out (Postgres's clock, UTC)."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the attempt should stop: it was cancelled, has timed out, or its worker drains. A handler that is a plain
        function must check this value itself from time to time."""
        ...

    def lifespan(self, of: WorkerLifespan[T]) -> T:
        """What a worker lifespan (`worker_lifespan`) has yielded in this process. Raises `InvalidOption` if the worker has
        not entered it, because no module of HANDLER_MODULES declares it."""
        ...


class Context(Attempt, Protocol):
    """The context of an ``async def`` handler."""

    @property
    def database(self) -> "Database":
        """Access to Postgres over the connections that the worker keeps for its handlers:
        ``async with ctx.database.sessions()() as session``."""
        ...

    result: Any
    """The job's result if the handler returns None; any other value that the handler returns is the result instead. A
    handler that uses `transaction` must set this before that block ends: the job ends with the block, and a value that is
    returned afterwards is not kept."""

    async def progress(self, fraction: float, note: str = "") -> None:
        """Report how far the attempt has come: `fraction` from 0 to 1, and a few words. Best effort: at most about 4 reports
        a second are written."""
        ...

    def transaction(self) -> "AbstractAsyncContextManager[AsyncSession]":
        """A block with a session whose commit also ends this job as succeeded, so that the handler's writes are made exactly
        once.

        Use it only once, as the handler's last step. The end of the block commits, even when the handler returns from inside
        the block. Any exception that leaves the block rolls everything back, including `result`. So raise `Discard`,
        `Snooze` and the like inside the block, and do not return them. What the handler returns or raises after the block
        changes nothing; the log then says so. If the job no longer belongs to this attempt, everything is rolled back and
        `StaleClaim` is raised. Raises `InvalidOption` while such a block of this attempt is open, or after one that has
        ended the job.
        """
        ...


class SyncContext(Attempt, Protocol):
    """The context of a handler that is a plain function (run in a thread or a process)."""

    result: Any
    """The job's result if the handler returns None; see `Context.result`."""

    def transaction(self) -> "AbstractContextManager[Session]":
        """A block with a session whose commit also ends this job as succeeded, so that the handler's writes are made exactly
        once; see `Context.transaction`.

        The session belongs to the handler's own thread, and its connection to the worker. The timeout does not end the block
        of a function that runs in a thread. But if the job no longer belongs to this attempt at the end of the block,
        everything is rolled back and `StaleClaim` is raised.
        """
        ...

    def progress(self, fraction: float, note: str = "") -> None:
        """Report how far the attempt has come: `fraction` from 0 to 1, and a few words. Best effort: a report may be
        lost."""
        ...
