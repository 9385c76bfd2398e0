"""Whether a job would be accepted now: an enqueue is tried, and taken back, so that a check meets what a caller would.

Guarantees: ``/health``, ``carafe_postgres_up`` and the dashboard's "Needs attention" judge by this alone, and agree; nothing
of it is ever seen or kept; however many ask, one is tried at a time, on a connection of its own (a busy pool is no dead
server).
A table that somebody has locked, a disk without space, a right that is missing and a standby that a commit waits for all
count, like a server that does not answer.
"""

import asyncio
import time
from typing import TYPE_CHECKING

import orjson

from carafe import postgres_away
from carafe.database import DISCONNECTED, SAID_NO, Database, committed
from carafe.errors import Unavailable
from carafe.jobs.identifiers import uuid7
from carafe.jobs.rehearsal import KIND
from carafe.jobs.statements import ENQUEUE

if TYPE_CHECKING:
    from carafe.jobs.moves import Connection

BOUND = 1.5
"""Seconds that a try may take."""

LOCKED = 1.2
"""Seconds that it waits for a lock; more than `carafe migrate` waits for one, behind which it then stands."""

FRESH = 5.0
"""Seconds for which a refusal that an enqueue has met counts, unless one is accepted after it: a disk may have room for what
is tried here, and none for what callers send."""


async def rehearse_enqueue(connection: "Connection") -> None:
    """Store a job and take it back, in a transaction that is committed: the log is written, and standbys are waited for, as
    for every job. Raises `Unavailable`, or Postgres's own error."""
    row = {"id": str(uuid7()), "kind": KIND, "args": {}, "secrets": [], "version": 1, "max_attempts": 1, "timeout": 60.0}
    async with committed(connection):
        await connection.execute(f"set local lock_timeout = '{int(LOCKED * 1000)}ms'")
        point = connection.transaction()
        await point.start()
        await connection.fetch(ENQUEUE.positional, *ENQUEUE.arguments(rows=orjson.dumps([row]).decode()))
        await point.rollback()


class Acceptance:
    """See the module. Bound to the event loop that first uses it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._met: tuple[float, BaseException] | None = None
        self._try: asyncio.Task[float] | None = None

    def refused(self, error: Unavailable) -> None:
        """An enqueue has met this. What others were in the way of concerns that job alone; what the server says it cannot
        do, everybody."""
        if isinstance(error.cause, SAID_NO):
            self._met = (time.monotonic(), error)

    def accepted(self) -> None:
        """A job was accepted."""
        self._met = None

    async def require(self) -> float:
        """Raises what an enqueue would meet; the seconds that an empty statement took. Answers within `BOUND`."""
        met = self._met
        if met is not None and time.monotonic() - met[0] < FRESH:
            raise met[1]
        running = self._try
        if running is None or running.done():
            running = self._try = asyncio.create_task(self._bounded(), name="would a job be accepted")
            running.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Whoever goes away meanwhile does not take it from the others.
        return await asyncio.shield(running)

    async def trouble(self) -> str | None:
        """Why no job would be accepted, in words (see `postgres_away.words`); None: one would. Never raises."""
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
