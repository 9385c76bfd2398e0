"""A timeout that does not count the time in which the process does not run.

A process that was frozen, or got no processor time, finds all its timers due when it continues, before it has read its
input. With an ordinary timeout, work that was not slow would then fail: a job would lose an attempt because its hook seems
to have taken too long. So this timeout counts only the time in which the event loop ran.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STEP = 0.5
"""Seconds that one step of the timeout counts, however long the event loop did not run during the step."""


@asynccontextmanager
async def timeout(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Like `asyncio.timeout`, but the `seconds` only count while the event loop runs, in whole steps of `STEP` seconds."""
    loop = asyncio.get_running_loop()
    steps = max(1, round(seconds / STEP))
    async with asyncio.timeout(None) as limit:
        timer: asyncio.TimerHandle | None = None

        def count(left: int) -> None:
            nonlocal timer
            if left:
                timer = loop.call_later(STEP, count, left - 1)
            else:
                limit.reschedule(loop.time())

        count(steps)
        try:
            yield limit
        finally:
            if timer is not None:
                timer.cancel()
