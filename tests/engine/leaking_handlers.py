"""The handlers of `tests.engine.leaking_jobs` (HANDLER_MODULES): some do not give back what they take."""

import asyncio
import gc
import os
from typing import Any

import asyncpg

from carafe import Context, handler
from tests.engine.leaking_jobs import Followed, Leak, Together

kept: list[Any] = []
together: list[asyncio.Event] = []


async def pass_gate(gate: int) -> None:
    """Wait until nobody holds the advisory lock."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await connection.execute("select pg_advisory_lock_shared($1)", gate)
    finally:
        connection.terminate()


async def take(how: str, ctx: Context) -> Any:
    from sqlalchemy import text

    match how:
        case "session":
            session = ctx.database.sessions()()
            await session.execute(text("select 'leaked'"))
            return session
        case "engine connection":
            connection = await ctx.database.engine.connect()
            await connection.execute(text("select 'leaked'"))
            return connection
        case "transaction":
            transaction = ctx.transaction()
            await transaction.__aenter__()
            return transaction
        case "connection":
            block = ctx.database.connection()
            await (await block.__aenter__()).execute("begin; select 'leaked'")
            return block
        case "pool":
            taken = await (await ctx.database.pool()).acquire()
            await taken.execute("select 'leaked'")
            return taken
        case "collected":
            await take("session", ctx)
            gc.collect()
            return None
        case "task":
            return await asyncio.create_task(take("session", ctx))
    raise AssertionError(how)


@handler(Leak)
async def leak(job: Leak, ctx: Context) -> None:
    for _ in range(job.count):
        kept.append(await take(job.how, ctx))
    if job.gate:
        await pass_gate(job.gate)
    if job.end == "raise":
        raise LookupError("as told")
    if job.end == "hang":
        await asyncio.Event().wait()


@handler(Together)
async def hold_together(job: Together, ctx: Context) -> None:
    from sqlalchemy import text

    event = asyncio.Event()
    async with ctx.database.sessions()() as session, session.begin():
        await session.execute(text("select 1"))
        together.append(event)
        if len(together) == job.count:
            for waiting in together:
                waiting.set()
            together.clear()
        await event.wait()


@handler(Followed)
async def followed(job: Followed, ctx: Context) -> None:
    """Does nothing."""
