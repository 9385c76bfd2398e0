"""The handlers of `tests.engine.hiding_jobs` (HANDLER_MODULES)."""

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from carafe import Cancel, Context, Discard, Retry, SyncContext, handler
from tests.engine.hiding_jobs import AsyncLetting, Letting, ProcessLetting, ThreadLetting


def let_out(job: Letting, ctx: Context | SyncContext) -> Any:
    password, key = job.logins[0].password.get_secret_value(), job.key.get_secret_value()
    said = f"as {job.logins[0].name} with {password!r} and {key}"
    logging.getLogger("letting").warning("plain %s", said)
    structlog.stdlib.get_logger("letting").warning("structured", key=key, within={"password": [password]})
    match job.how:
        case "threads":
            say = logging.getLogger("threads").warning
            with ThreadPoolExecutor(1) as pool:
                pool.submit(say, "from a pool %s", said).result()
            thread = threading.Thread(target=say, args=("from a thread %s", said), kwargs={"extra": {f"name {key}": key}})
            thread.start()
            thread.join()
            return None
        case "names":
            structlog.stdlib.get_logger("letting").warning("names", **{key: key, f"of {password}": 1})
            return None
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
        case "class":
            raise type(f"Refused_{key}", (ValueError,), {"__module__": key})(said)
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
    if job.how == "threads":
        say = logging.getLogger("threads").warning
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, say, "from an executor %s", job.key.get_secret_value())
        with ThreadPoolExecutor(1) as pool:
            await loop.run_in_executor(pool, say, "from its own executor %s", job.key.get_secret_value())
    return let_out(job, ctx)


@handler(ThreadLetting)
def in_a_thread(job: ThreadLetting, ctx: SyncContext) -> Any:
    return let_out(job, ctx)


@handler(ProcessLetting, isolation="process")
def in_a_process(job: ProcessLetting, ctx: SyncContext) -> Any:
    return let_out(job, ctx)
