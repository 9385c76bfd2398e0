"""The handlers of `tests.engine.hiding_jobs` (HANDLER_MODULES)."""

import asyncio
import logging
import os
from typing import Any

import structlog

from carafe.jobs import Cancel, Context, Discard, Retry, SyncContext, handler
from tests.engine.hiding_jobs import AsyncLetting, Letting, ProcessLetting, ThreadLetting


def let_out(job: Letting, ctx: Context | SyncContext) -> Any:
    password, key = job.logins[0].password.get_secret_value(), job.key.get_secret_value()
    said = f"as {job.logins[0].name} with {password!r} and {key}"
    logging.getLogger("letting").warning("plain %s", said)
    structlog.stdlib.get_logger("letting").warning("structured", key=key, within={"password": [password]})
    match job.how:
        case "error":
            try:
                raise ValueError(said)
            except ValueError as error:
                raise LookupError({"key": key, "password": password}) from error
        case "logged error":
            try:
                raise ValueError(said)
            except ValueError:
                logging.getLogger("letting").exception("failed")
            return None
        case "retry":
            raise Retry(said)
        case "discard":
            raise Discard(said)
        case "cancel":
            raise Cancel(said)
        case "cut":
            raise ValueError("x" * (10_000 - 10) + key)
        case "environment":
            return sorted(os.environ)
        case "result":
            return {"key": key, password: 1, "text": f"{{{password}}}", "number": 42}
    return None


async def progress(ctx: Context, job: Letting) -> None:
    await ctx.progress(1, f"with {job.key.get_secret_value()}")


@handler(AsyncLetting)
async def in_a_task(job: AsyncLetting, ctx: Context) -> Any:
    if job.how == "transaction":
        ctx.result = {"key": job.key.get_secret_value()}
        async with ctx.transaction():
            return None
    if job.how == "progress":
        await progress(ctx, job)
        await asyncio.Event().wait()
    return let_out(job, ctx)


@handler(ThreadLetting)
def in_a_thread(job: ThreadLetting, ctx: SyncContext) -> Any:
    return let_out(job, ctx)


@handler(ProcessLetting, isolation="process")
def in_a_process(job: ProcessLetting, ctx: SyncContext) -> Any:
    return let_out(job, ctx)
