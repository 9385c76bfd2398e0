"""Checks whether a job would be accepted now: rehearses an enqueue, so that the check meets the same errors as a caller.

Guarantees: ``/health``, ``carafe_postgres_up`` and the dashboard's "Needs attention" all use this check, and so agree. The
job of a rehearsal is never visible or kept. However many callers ask, only one rehearsal runs at a time. It has a connection
of its own, so that a pool whose connections are all in use is not mistaken for a dead server.
The check fails when the server does not answer, and also when a table is locked, the disk is full, a right is missing, or
commits wait for a standby that does not confirm them.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from carafe import postgres_away
from carafe.errors import Unavailable
from carafe.store.database import DISCONNECTED, SAID_NO, Database, committed
from carafe.store.enqueueing import sample
from carafe.store.rehearsal import KIND
from carafe.store.statements import ENQUEUE

if TYPE_CHECKING:
    from carafe.store.database import Connection

BOUND = 1.5
"""Seconds that one rehearsal may take."""

LOCKED = 1.2
"""Seconds that the rehearsal waits for a lock. `carafe migrate` waits less, so a rehearsal that waits behind a migration for
the same lock does not fail because of it."""

FRESH = 5.0
"""Seconds for which the check reports the error of a real enqueue, unless another enqueue is accepted in that time. Without
this, the check could succeed on a disk that has room for the rehearsal's job, but not for the jobs of callers."""


async def rehearse_enqueue(connection: "Connection") -> None:
    """Store a job, undo that, and commit the transaction. The commit writes the write-ahead log and waits for standbys, like
    the commit of every enqueue. Raises `Unavailable`, or Postgres's own error."""
    _, row = sample(KIND)
    async with committed(connection):
        await connection.execute(f"set local lock_timeout = '{int(LOCKED * 1000)}ms'")
        point = connection.transaction()
        await point.start()
        await ENQUEUE.fetch(connection, rows=f"[{row}]")
        await point.rollback()


class Acceptance:
    """Checks whether a job would be accepted now, as this module describes. An object only works on the event loop that
    first uses it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._met: tuple[float, BaseException] | None = None
        self._try: asyncio.Task[float] | None = None

    def refused(self, error: Unavailable) -> None:
        """Record that a real enqueue has failed with this error. It only counts if it says that the server cannot work: a
        conflict with other transactions says nothing about other jobs."""
        if isinstance(error.cause, SAID_NO):
            self._met = (time.monotonic(), error)

    def accepted(self) -> None:
        """Record that a real enqueue was accepted."""
        self._met = None

    async def require(self) -> float:
        """Raises the error that an enqueue would meet now. If there is none, returns how many seconds an empty statement
        took. Answers within `BOUND` seconds."""
        met = self._met
        if met is not None and time.monotonic() - met[0] < FRESH:
            raise met[1]
        running = self._try
        if running is None or running.done():
            running = self._try = asyncio.create_task(self._bounded(), name="would a job be accepted")
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
        # A caller that is cancelled meanwhile must not cancel the rehearsal for the others.
        return await asyncio.shield(running)

    async def trouble(self) -> str | None:
        """A text that says why no job would be accepted now (see `postgres_away.words`), or None if a job would be accepted.
        Never raises."""
        try:
            await self.require()
        except Exception as error:
            return postgres_away.words(error)
        return None

    async def close(self) -> None:
        """Close the connection."""
        if self._try is not None:
            self._try.cancel()
            await asyncio.wait([self._try])
        if self._database is not None:
            await self._database.close()

    async def _bounded(self) -> float:
        async with asyncio.timeout(BOUND):
            try:
                return await self._tried()
            except DISCONNECTED as error:
                if isinstance(error, SAID_NO):
                    raise
                return await self._tried()  # an idle connection may have died with a server that is back

    async def _tried(self) -> float:
        if self._database is None:
            self._database = Database(self._url, pool_size=1, name="carafe health", command_timeout=BOUND)
        began = time.monotonic()
        async with self._database.connection() as connection:
            await connection.fetchval("select 1")
            took = time.monotonic() - began
            await rehearse_enqueue(connection)
        return took
