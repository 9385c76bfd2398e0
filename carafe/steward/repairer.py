"""Repairs hints: a queued row whose hint Redis has lost is pushed again.

Hints are popped in the order of their stamps. So a row is lost when the list is empty, or when its stamp is older than that
of the hint to be popped next, each with two seconds of grace for pushes and claims that are under way. A stamp in the
future is a pause (a kind that no worker knew): such a row is due when its time has come.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import orjson

from carafe import metrics
from carafe.database import Database
from carafe.jobs import redis_away
from carafe.jobs.hints import QUEUE, decode, moment_of
from carafe.jobs.queue import Queue
from carafe.jobs.statements import REPUSH
from carafe.steward.promoter import hints_of
from carafe.steward.service import Service

GRACE = 2.0
"""Seconds that a hint may be under way."""

BATCH = 1000
"""Rows in one statement; `round` goes on while batches are full."""

SHARE = 0.1
"""Of one connection's time that looking may take, by looking less often: in a drain the index begins with the entries of all
jobs that were just taken, and a look passes every one of them until they are vacuumed."""

LONGEST = 3.0
"""Seconds that a look may be put off for that."""

LONG_AGO, FOREVER = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Repairer(Service):
    """See the module."""

    name = "repairer"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self.repaired = 0
        self._following = FOREVER
        self._began: datetime | None = None
        self._after = LONG_AGO
        self._took = 0.0

    async def pause(self) -> None:
        """Like any service's, and longer when looking has become dear."""
        await super().pause()
        await asyncio.sleep(min(LONGEST, max(0.0, self._took / SHARE - self.interval)))

    async def round(self) -> None:
        """One look at the list, and one at the clock, decide for the whole round: its own pushes change the list, and what
        it has pushed must not count as lost again, however long the round takes."""
        try:
            self._following = await self._stamp_of_the_next_hint()
        except redis_away.AWAY:
            return  # Redis is away: nothing could be pushed
        self._began, self._after = None, LONG_AGO
        await super().round()

    async def _stamp_of_the_next_hint(self) -> datetime:
        """Older stamps are those of hints that are lost."""
        following = await self._queue.redis.lindex(QUEUE, -1)
        if following is None:
            return FOREVER
        try:
            hint = decode(orjson.loads(following))
        except orjson.JSONDecodeError:
            hint = None
        if hint is None:
            return LONG_AGO  # some other message: a worker will drop it
        return moment_of(hint.stamp)

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            if self._began is None:
                self._began = await connection.fetchval("select clock_timestamp()")
            before = min(self._began, self._following) - timedelta(seconds=GRACE)
            arguments = REPUSH.arguments(queue=QUEUE, before=before, after=self._after, limit=BATCH)
            began = time.monotonic()
            rows = await connection.fetch(REPUSH.positional, *arguments)
            self._took = time.monotonic() - began
        if rows:
            # The entries of those that were stamped anew are not passed again in this round.
            self._after = rows[0]["reached"]
        pushed = await self._queue.push(hints_of(rows))
        self.repaired += len(rows)
        # Shown as 0 too, so that the first repair is seen as a rise.
        metrics.HINTS_REPAIRED.add((QUEUE,), len(rows) if pushed else 0)
        return pushed and len(rows) == BATCH
