"""The handlers of `tests.browser.kinds` (HANDLER_MODULES). Only the worker process imports this module."""

import asyncio
import logging

from carafe import Context, handler
from tests.browser.kinds import Broken, Greet, Invoice, Letter, Parcel, Refund, Wait

log = logging.getLogger("shop")


class ConnectTimeout(Exception):
    """What these handlers need is away."""


async def work(job: Broken, ctx: Context) -> str:
    """Fails while its cause is there."""
    async with ctx.database.connection() as connection:
        if await connection.fetchval("select 1 from causes where cause = $1", job.cause):
            raise ConnectTimeout(f"no answer from {job.cause}")
    return f"{job.cause} {job.number}"


@handler(Invoice)
async def invoice(job: Invoice, ctx: Context) -> str:
    return await work(job, ctx)


@handler(Letter)
async def letter(job: Letter, ctx: Context) -> str:
    return await work(job, ctx)


@handler(Parcel)
async def parcel(job: Parcel, ctx: Context) -> str:
    return await work(job, ctx)


@handler(Refund)
async def refund(job: Refund, ctx: Context) -> str:
    return await work(job, ctx)


@handler(Wait)
async def wait(job: Wait, ctx: Context) -> None:
    log.info("waiting: %s", job.note)
    await ctx.progress(0.25, "waiting")
    await asyncio.Event().wait()


@handler(Greet)
async def greet(job: Greet, ctx: Context) -> str:
    return " ".join([f"Hello {job.name}!"] * job.times)
