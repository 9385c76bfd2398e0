"""What every process says of itself to Prometheus: how late its event loop is, and whether Postgres and Redis can be used.

Guarantees: it costs a few round trips every five seconds, on connections that the process has anyway; a full pool is not
taken for a Postgres that is away; nothing here fails its host. What is asked of Postgres is what ``/health`` asks.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from carafe import metrics
from carafe.database import AWAY, Database
from carafe.errors import Unavailable
from carafe.jobs.acceptance import Acceptance, rehearse_enqueue
from carafe.jobs.queue import Queue
from carafe.tasks import end

LOOK = 0.25
"""Seconds between two looks at the clock."""

WINDOW = 15.0
"""Seconds after which the greatest lag begins to be forgotten: it is shown for one to two windows, so that no scrape misses
it."""

INTERVAL = 5.0
"""Seconds between two looks at Postgres and Redis."""

ANSWER = 2.0
"""Seconds that a look may take; it counts as failed then."""


class LoopLag:
    """How late the loop comes to what it should do. `seconds` may be asked from any thread, also while it stands still."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + LOOK
        self._worst = self._before = 0.0
        self._window = clock() + WINDOW

    def seconds(self) -> float:
        """The greatest lag of late, or the one that lasts now."""
        return max(self._worst, self._before, self._clock() - self._due)

    def looked(self) -> None:
        """The loop has come round; it will again after `LOOK`."""
        now = self._clock()
        if now >= self._window:
            # What was before is forgotten, if this window has followed at once.
            self._before = self._worst if now < self._window + WINDOW else 0.0
            self._worst, self._window = 0.0, now + WINDOW
        self._worst = max(self._worst, now - self._due)
        self._due = now + LOOK

    async def run(self) -> None:
        """Look until cancelled."""
        self._due = self._clock() + LOOK
        while True:
            await asyncio.sleep(LOOK)
            self.looked()


class Answers:
    """Whether one server answers, and how fast. None before the first look."""

    def __init__(self, ask: Callable[[], Awaitable[float]]) -> None:
        """`ask` returns the seconds that it took, or raises."""
        self._ask = ask
        self.up: bool | None = None
        self.took: float | None = None

    async def look(self) -> None:
        """Ask once, and once more when that failed: an idle connection may have died with a server that is back."""
        try:
            try:
                self.took = await self._ask()
            except AWAY:
                raise
            except _Busy:
                raise
            except Exception:
                self.took = await self._ask()
            self.up = True
        except _Busy:
            pass  # says nothing about the server
        except Exception:
            self.up, self.took = False, None

    def reads_up(self) -> dict[tuple[str, ...], float]:
        """For a gauge."""
        return {} if self.up is None else {(): float(self.up)}

    def reads_took(self) -> dict[tuple[str, ...], float]:
        """For a gauge."""
        return {} if self.took is None else {(): self.took}


class _Busy(Exception):
    """All connections of the pool are in use."""


@asynccontextmanager
async def vitals(database: Database, queue: Queue, acceptance: Acceptance | None = None) -> AsyncIterator[None]:
    """Watch this loop and these servers for as long as the block lasts. `acceptance`: what ``/health`` asks too; without it
    the same is asked over the pool of `database`."""

    async def postgres() -> float:
        if acceptance is not None:
            return await acceptance.require()
        began, took = time.monotonic(), None
        try:
            async with database.connection() as connection, asyncio.timeout(ANSWER):
                await connection.fetchval("select 1")
                took = time.monotonic() - began
                await rehearse_enqueue(connection)
                return took
        except Unavailable as error:
            if took is not None:
                raise  # it answers, and cannot be used
            try:
                database.require()
            except Unavailable:
                raise error from None
            raise _Busy from error  # the pool is full, or one connection was lost: the next look knows which

    async def redis() -> float:
        began = time.monotonic()
        async with asyncio.timeout(ANSWER):
            await queue.require()
        return time.monotonic() - began

    lag, of_postgres, of_redis = LoopLag(), Answers(postgres), Answers(redis)
    stops = [
        metrics.LOOP_LAG.follow(lambda: {(): lag.seconds()}),
        metrics.POSTGRES_UP.follow(of_postgres.reads_up),
        metrics.POSTGRES_SECONDS.follow(of_postgres.reads_took),
        metrics.REDIS_UP.follow(of_redis.reads_up),
        metrics.REDIS_SECONDS.follow(of_redis.reads_took),
    ]
    tasks = [
        asyncio.create_task(lag.run(), name="loop lag"),
        *(asyncio.create_task(_keep_looking(answers), name="vitals") for answers in (of_postgres, of_redis)),
    ]
    try:
        yield
    finally:
        for stop in stops:
            stop()
        await end(tasks)


async def _keep_looking(answers: Answers) -> None:
    while True:
        await answers.look()
        await asyncio.sleep(INTERVAL)
