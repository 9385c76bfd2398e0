"""Repairs hints: pushes the hint of a queued job again when Redis has lost it.

Hints are popped in the order of their stamps, and each job's row has the stamp of its hint. So the hint of a queued job is
lost if the list is empty, or if the job's stamp is older than that of the hint to be popped next. In both cases a hint
counts as lost only after two more seconds, since a push or a claim may be under way. A stamp in the future means that the
hint is to be pushed at that time and not before, because no worker knew the kind of job.

A job whose kind is paused loses its stamp instead of getting a hint, so that rounds do not look at it again, however many
there are. When the kind is resumed, such jobs are found by the missing stamp, and get a hint.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from carafe.jobs.queue_name import QUEUE
from carafe.queue import redis_away
from carafe.queue.hints import moment_of, read
from carafe.queue.queue import Queue
from carafe.steward.promoter import hints_of
from carafe.steward.service import Service
from carafe.steward.statements import REPUSH
from carafe.store.database import Database
from carafe.store.statements import REHINT
from carafe.telemetry import metrics

GRACE = 2.0
"""Seconds that a hint may be under way before it counts as lost."""

BATCH = 1000
"""The maximum number of rows in one statement. A round goes on while batches are full."""

SHARE = 0.1
"""The share of one connection's time that scans may take: the slower a scan, the less often scans run. Scans are slow while
workers process a backlog: jobs that were just taken leave dead entries at the start of the index, and a scan must step over
them until vacuum removes them."""

LONGEST = 3.0
"""The maximum number of seconds by which a scan is delayed because scans are slow."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Repairer(Service):
    """The service that pushes lost hints again."""

    name = "repairer"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self.repaired = 0
        self._before: datetime | None = None
        self._after = LONG_AGO
        self._took = 0.0

    async def pause(self) -> None:
        """Wait for the next round as every service does, or longer if scans take so long that their share of the time would
        exceed `SHARE`."""
        await super().pause()
        await asyncio.sleep(min(LONGEST, max(0.0, self._took / SHARE - self.interval)))

    async def round(self) -> None:
        """Push all hints that were lost when the round began. The list and the clock are read once for the whole round,
        since the round's own pushes change the list, and the hints that it pushed must not count as lost again."""
        self._before, self._after = None, LONG_AGO
        await super().round()

    async def _lost_before(self) -> datetime | None:
        """Returns a time: if a queued job's stamp is before that, the job's hint is lost. Returns None if Redis cannot be
        used, since no hint can be pushed then."""
        try:
            following = await self._queue.following()
        except redis_away.errors():
            return None
        async with self._database.connection() as connection:
            now: datetime = await connection.fetchval("select clock_timestamp()")
        grace = timedelta(seconds=GRACE)
        if following is None:
            return now - grace
        hint = read(following)
        stamp = LONG_AGO if hint is None else moment_of(hint.stamp)
        # Anybody who can write to Redis can put a message there that is not a hint, or a hint with a future stamp. Such a
        # message says nothing about our hints, and a worker will drop it.
        return LONG_AGO if stamp > now + grace else min(now, stamp) - grace

    async def work(self) -> bool:
        if self._before is None:
            self._before = await self._lost_before()
        if self._before is None:
            return False
        async with self._database.connection() as connection:
            began = time.monotonic()
            resumed = await REHINT.fetch(connection, limit=BATCH)
            rows = await REPUSH.fetch(connection, queue=QUEUE, before=self._before, after=self._after, limit=BATCH)
            self._took = time.monotonic() - began
        if rows:
            # Jobs that were stamped again are not visited again in this round.
            self._after = rows[0]["reached"]
        repaired = hints_of(rows)
        pushed = await self._queue.push([*hints_of(resumed), *repaired])
        self.repaired += len(repaired)
        # Shown as 0 too, so that the first repair is seen as a rise.
        metrics.HINTS_REPAIRED.add((QUEUE,), len(repaired) if pushed else 0)
        return pushed and BATCH in (len(rows), len(resumed))
