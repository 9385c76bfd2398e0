"""What the jobs of the chaos suite do (HANDLER_MODULES). Each tells the journal when it begins and when it returns."""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

from carafe import Context, Discard, Snooze, SyncContext, handler
from chaos.jobs import (
    Crashing,
    Discarding,
    Effect,
    Failing,
    Isolated,
    Long,
    Ordered,
    Plain,
    Poisoned,
    Retrying,
    Snoozing,
    Tagged,
    Threaded,
    Unique,
)
from chaos.journal import begin, end
from chaos.tasks import install

install()


class Failure(RuntimeError):
    """A failure that was asked for."""


@handler(Plain)
async def plain(job: Plain, ctx: Context) -> dict[str, Any]:
    """Wait for a moment."""
    mark = begin(ctx)
    await asyncio.sleep(job.milliseconds / 1000)
    return end(ctx, mark)


@handler(Threaded)
def threaded(job: Threaded, ctx: SyncContext) -> dict[str, Any]:
    """Block a thread for a moment."""
    mark = begin(ctx)
    time.sleep(job.milliseconds / 1000)
    return end(ctx, mark)


@handler(Isolated, isolation="process")
def isolated(job: Isolated, ctx: SyncContext) -> dict[str, Any]:
    """Run in a child."""
    return end(ctx, begin(ctx))


@handler(Long)
async def long(job: Long, ctx: Context) -> dict[str, Any]:
    """Wait for seconds."""
    mark = begin(ctx)
    await asyncio.sleep(job.seconds)
    return end(ctx, mark)


@handler(Failing)
async def failing(job: Failing, ctx: Context) -> None:
    """Fail."""
    begin(ctx)
    raise Failure("as asked")


@handler(Discarding)
async def discarding(job: Discarding, ctx: Context) -> None:
    """Say that it can never succeed."""
    begin(ctx)
    raise Discard("as asked")


@handler(Retrying)
async def retrying(job: Retrying, ctx: Context) -> dict[str, Any]:
    """Fail at first."""
    mark = begin(ctx)
    if ctx.attempt <= job.failures:
        raise Failure(f"attempt {ctx.attempt} fails")
    return end(ctx, mark)


@handler(Snoozing)
async def snoozing(job: Snoozing, ctx: Context) -> dict[str, Any]:
    """Toss a coin."""
    mark = begin(ctx)
    if random.random() < 0.5:
        raise Snooze(0.2)
    return end(ctx, mark)


async def _quick(job: Tagged, ctx: Context) -> dict[str, Any]:
    mark = begin(ctx)
    await asyncio.sleep(0.01)
    return end(ctx, mark)


@handler(Unique)
async def unique(job: Unique, ctx: Context) -> dict[str, Any]:
    """Wait for a moment, alone."""
    return await _quick(job, ctx)


@handler(Ordered)
async def ordered(job: Ordered, ctx: Context) -> dict[str, Any]:
    """Wait for a moment."""
    return await _quick(job, ctx)


@handler(Effect)
async def effect(job: Effect, ctx: Context) -> dict[str, Any]:
    """Write a row and end the job, in one transaction."""
    from sqlalchemy import text  # here, since each child process imports this module

    mark = begin(ctx)
    async with ctx.transaction() as session:
        ctx.result = mark
        await session.execute(
            text("insert into chaos.effects (job_id, token, fence) values (:job_id, :token, :fence)"),
            {"job_id": ctx.job_id, "token": mark["token"], "fence": mark["fence"]},
        )
        if job.fails_first and ctx.attempt == 1:
            raise Failure("after having written")
    return end(ctx, mark)


@handler(Crashing)
async def crashing(job: Crashing, ctx: Context) -> dict[str, Any]:
    """End the process, once."""
    mark = begin(ctx)
    folder = Path(os.environ["CHAOS_JOURNAL"]).parent / "crashed"
    folder.mkdir(exist_ok=True)
    try:
        os.close(os.open(folder / str(ctx.job_id), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return end(ctx, mark)
    os._exit(9)


@handler(Poisoned)
async def poisoned(job: Poisoned, ctx: Context) -> None:
    """End the process, always."""
    begin(ctx)
    os._exit(9)
