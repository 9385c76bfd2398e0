"""What the jobs of `tests.cluster.jobs` do (HANDLER_MODULES in the image of tests/cluster/Dockerfile)."""

import asyncio
import os
import socket
import time

from carafe import Context, SyncContext, handler
from tests.cluster.jobs import Block, Fail, Hog, HogApart, Hold, Quick, Wait

CHUNK = 16 << 20
"""Bytes that a hog takes at a time."""

RELEASED = "select exists (select from public.cluster_released where tag = $1)"


def here() -> dict[str, str]:
    """Which pod, and which release of the image, ran the job."""
    return {"pod": socket.gethostname(), "release": os.environ.get("CARAFE_TEST_RELEASE", "")}


@handler(Quick)
async def quick(job: Quick, ctx: Context) -> dict[str, str]:
    """Wait for a moment."""
    await asyncio.sleep(0.05)
    return here()


@handler(Wait)
async def wait(job: Wait, ctx: Context) -> dict[str, str]:
    """Wait for as long as it was told."""
    await asyncio.sleep(job.seconds)
    return here()


@handler(Hold)
async def hold(job: Hold, ctx: Context) -> dict[str, str]:
    """Ask every second; whatever Postgres does meanwhile, go on."""
    told = 0
    while True:
        # Progress is best effort, and the tests read it: say it more than once.
        if told < 5:
            await ctx.progress(0.0, socket.gethostname())
            told += 1
        if await _released(ctx, job.tag):
            return here()
        await asyncio.sleep(1)


async def _released(ctx: Context, tag: str) -> bool:
    try:
        async with ctx.database.connection() as connection:
            return bool(await connection.fetchval(RELEASED, tag))
    except Exception:
        return False


@handler(Hog)
async def hog(job: Hog, ctx: Context) -> None:
    """Take memory a chunk at a time, so that the loop lives until the kernel ends it."""
    taken = []
    while True:
        taken.append(b"x" * CHUNK)
        await asyncio.sleep(0.02)


@handler(HogApart, isolation="process")
def hog_apart(job: HogApart, ctx: SyncContext) -> None:
    """The same, in a child process."""
    taken = []
    while True:
        taken.append(b"x" * CHUNK)
        time.sleep(0.02)


@handler(Block)
async def block(job: Block, ctx: Context) -> dict[str, str]:
    """What no handler should do: block the loop. `/livez` then fails, and the kubelet restarts the container."""
    if ctx.attempt == 1:
        time.sleep(590)  # noqa: ASYNC251
    return here()


@handler(Fail)
async def fail(job: Fail, ctx: Context) -> dict[str, str]:
    """A fault that an operator can mend: then the dead letters are replayed."""
    if not await _released(ctx, job.tag):
        raise RuntimeError(f"not released: {job.tag}")
    return here()
