"""The benchmark's handlers."""

import asyncio

from benchmarks import probe
from benchmarks.carafe_jobs import Noop, Wait
from carafe.jobs import Context, handler


@handler(Noop)
async def noop(job: Noop, ctx: Context) -> dict[str, bool]:
    """Say that it started, and succeed with a result that is stored."""
    probe.started(job.x)
    return {"ok": True}


@handler(Wait)
async def wait(job: Wait, ctx: Context) -> None:
    """Wait without holding a thread."""
    probe.started()
    await asyncio.sleep(job.seconds)
    probe.ended()
