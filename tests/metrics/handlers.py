"""Their handlers (HANDLER_MODULES)."""

import asyncio
import time
from uuid import UUID

from carafe import Cancel, Context, Snooze, SyncContext, handler
from tests.metrics.jobs import Apart, Declining, Failing, Fine, Flaky, Snoozing, Threaded, Whole

_snoozed: set[UUID] = set()


@handler(Fine)
async def fine(job: Fine, ctx: Context) -> None:
    if job.seconds:
        await asyncio.sleep(job.seconds)


@handler(Threaded)
def threaded(job: Threaded, ctx: SyncContext) -> None:
    if job.seconds:
        time.sleep(job.seconds)


@handler(Apart, isolation="process")
def apart(job: Apart, ctx: SyncContext) -> None:
    pass


@handler(Whole)
async def whole(job: Whole, ctx: Context) -> None:
    async with ctx.transaction():
        pass


@handler(Flaky)
async def flaky(job: Flaky, ctx: Context) -> None:
    if ctx.attempt < 3:
        raise ConnectionError("not yet")


@handler(Failing)
async def failing(job: Failing, ctx: Context) -> None:
    raise ValueError("never")


@handler(Snoozing)
async def snoozing(job: Snoozing, ctx: Context) -> None:
    if ctx.job_id not in _snoozed:
        _snoozed.add(ctx.job_id)
        raise Snooze(0.1)


@handler(Declining)
async def declining(job: Declining, ctx: Context) -> None:
    raise Cancel("no longer wanted")
