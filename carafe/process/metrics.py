"""The metrics that every process exports to Prometheus about itself: the lag of its event loop, and whether it can use
Postgres and Redis.

Guarantees: the checks cost a few round trips every five seconds, on connections that the process has anyway. A full pool
does not count as a lost Postgres. No failed check makes the process fail. Postgres is checked in the same way as for
``/health``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from carafe.errors import Unavailable
from carafe.process.cancelling import end
from carafe.queue.queue import Queue
from carafe.store.acceptance import Acceptance, rehearse_enqueue
from carafe.store.database import AWAY, Database
from carafe.telemetry import metrics

LOOK = 0.25
"""Seconds between two measurements of the event loop's lag."""

WINDOW = 15.0
"""The length of a time window in seconds. The metric shows the greatest lag of this window and the one before, so that no
scrape misses a short lag."""

INTERVAL = 5.0
"""Seconds between two checks of Postgres and Redis."""

ANSWER = 2.0
"""Seconds after which a check without an answer counts as failed."""


class LoopLag:
    """Measures the lag of the event loop: how much later than due it calls a function. The method `seconds` may be called
    from any thread, even while the loop is blocked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock() + LOOK
        self._worst = self._before = 0.0
        self._window = clock() + WINDOW

    def seconds(self) -> float:
        """Returns the greatest lag of this window and the one before, in seconds. If the event loop is blocked now, the time
        since then counts as lag."""
        return max(self._worst, self._before, self._clock() - self._due)

    def looked(self) -> None:
        """Called by the loop every `LOOK` seconds. Measures how late this call is."""
        now = self._clock()
        if now >= self._window:
            # What was before is forgotten, if this window has followed at once.
            self._before = self._worst if now < self._window + WINDOW else 0.0
            self._worst, self._window = 0.0, now + WINDOW
        self._worst = max(self._worst, now - self._due)
        self._due = now + LOOK

    async def run(self) -> None:
        """Measure the lag until cancelled."""
        self._due = self._clock() + LOOK
        while True:
            await asyncio.sleep(LOOK)
            self.looked()


class Answers:
    """Whether one server answers (`up`), and in how many seconds (`took`). Both are None before the first check."""

    def __init__(self, ask: Callable[[], Awaitable[float]]) -> None:
        """`ask` asks the server, and returns the seconds that the answer took, or raises."""
        self._ask = ask
        self.up: bool | None = None
        self.took: float | None = None

    async def look(self) -> None:
        """Ask the server. If that fails, ask a second time: the connection may have been broken by an earlier outage that is
        over."""
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
        """`up` as the value of a gauge: 1 or 0, and nothing before the first check."""
        return {} if self.up is None else {(): float(self.up)}

    def reads_took(self) -> dict[tuple[str, ...], float]:
        """`took` as the value of a gauge, in seconds; nothing while the server does not answer."""
        return {} if self.took is None else {(): self.took}


class _Busy(Exception):
    """All connections of the pool are in use."""


@asynccontextmanager
async def vitals(database: Database, queue: Queue, acceptance: Acceptance | None = None) -> AsyncIterator[None]:
    """Context manager. While its block runs, measures this event loop's lag, and checks Postgres and Redis. `acceptance` is
    the check of Postgres that ``/health`` uses too; without it, the same check runs on a connection of `database`."""

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
                raise  # Postgres answers, but cannot be used
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
