"""The handlers of `tests.engine.lending_jobs` (HANDLER_MODULES)."""

import asyncio
from typing import Any

from carafe import Context, handler
from tests.engine.lending_jobs import Handled, Hooked, Looks, Partial, misuse


@handler(Hooked)
async def hooked(job: Hooked, ctx: Context) -> None:
    from sqlalchemy import text

    async with ctx.database.sessions()() as session, session.begin():
        await session.execute(text("insert into effects (job_id, word) values (:id, 'run')"), {"id": ctx.job_id})
    if job.when == "queued" and ctx.attempt == 1:
        raise LookupError("queued again by that")


@handler(Partial)
async def partial(job: Partial, ctx: Context) -> None:
    """Nothing."""


@handler(Handled)
async def handled(job: Handled, ctx: Context) -> None:
    from sqlalchemy import text

    match job.when:
        case "transaction":
            async with ctx.transaction() as session:
                await session.execute(text("insert into effects (job_id, word) values (:id, 'once')"), {"id": ctx.job_id})
                await misuse(job.what, session)
        case "session":
            async with ctx.database.sessions()() as session, session.begin():
                await misuse(job.what, session)
        case "connection":
            async with ctx.database.connection() as connection:
                await connection.execute("set role pg_monitor; create temporary table effects (x int)")
        case "another loop":
            await asyncio.to_thread(asyncio.run, look(ctx))


async def look(ctx: Context) -> list[Any]:
    from sqlalchemy import text

    async with ctx.database.sessions()() as session, session.begin():
        await session.execute(text("insert into effects (job_id, word) values (:id, 'looked')"), {"id": ctx.job_id})
        seen = (await session.execute(text("select current_user = session_user, 'effects'::regclass::oid"))).one()
    async with ctx.database.connection() as connection:
        await connection.execute("insert into effects (job_id, word) values ($1, 'looked')", ctx.job_id)
        also = await connection.fetchrow("select current_user = session_user, 'effects'::regclass::oid")
    return [*seen, *also]


@handler(Looks)
async def looks(job: Looks, ctx: Context) -> list[Any]:
    return await look(ctx)
