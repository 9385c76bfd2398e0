"""What a handler is given besides its arguments: who it is, how long it has, progress, and the transaction that ends it."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from carafe.database import Database


class Attempt(Protocol):
    """What every handler knows of its attempt."""

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
        """When this attempt's time is up (Postgres time, UTC)."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the attempt should stop: cancelled, timed out or draining. Plain functions look at it themselves."""
        ...


class Context(Attempt, Protocol):
    """The context of an ``async def`` handler."""

    @property
    def database(self) -> "Database":
        """The worker's own access to Postgres, for sessions: ``async with ctx.database.sessions()() as session``."""
        ...

    result: Any
    """What `transaction` stores as the job's result; set it before the block ends."""

    async def progress(self, fraction: float, note: str = "") -> None:
        """Say how far the attempt is: `fraction` from 0 to 1, and a few words. Best effort, at most about 4 writes/s."""
        ...

    def transaction(self) -> "AbstractAsyncContextManager[AsyncSession]":
        """A session whose commit also ends this job as succeeded: the handler's writes exist exactly once.

        Use it once, as the handler's last step. Raises `StaleClaim`, rolling all back, when the job is no longer ours.
        """
        ...


class SyncContext(Attempt, Protocol):
    """The context of a plain function (thread or process)."""

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how far the attempt is: `fraction` from 0 to 1, and a few words. Best effort."""
        ...
