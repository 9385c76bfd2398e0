"""The benchmark's handlers."""

import asyncio

from benchmarks import probe
from benchmarks.carafe_jobs import Cpu, CpuProcess, Fail, Noop, Thread, Wait
from carafe import Context, SyncContext, handler


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


@handler(Thread)
def thread(job: Thread, ctx: SyncContext) -> dict[str, bool]:
    """As the no-op does."""
    probe.started()
    return {"ok": True}


@handler(Fail)
async def fail(job: Fail, ctx: Context) -> None:
    """With an exception of Python's own, as most failures are."""
    probe.started()
    raise ValueError("this job always fails")


@handler(Cpu)
def cpu(job: Cpu, ctx: SyncContext) -> None:
    """10 ms of the thread's processor time."""
    probe.work(0.01)


@handler(CpuProcess, isolation="process")
def cpu_process(job: CpuProcess, ctx: SyncContext) -> None:
    """10 ms of the process's processor time."""
    probe.work(0.01)
