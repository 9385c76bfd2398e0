"""The handlers of `tests.engine.logging_jobs`. Only the worker process imports this module."""

import asyncio
import logging
import os
import signal
import threading

import structlog

from carafe import Context, SyncContext, handler
from tests.engine.handlers import pass_gate, pass_gate_async
from tests.engine.logging_jobs import AsyncSay, ProcessSay, Say, ThreadSay

log = logging.getLogger("application.handlers")
structured = structlog.stdlib.get_logger("application.structured")


def say(job: Say, attempt: int) -> None:
    """What is the same in every mode."""
    match job.what:
        case "say" | "say again":
            for number in range(job.count):
                log.info("%s%s", job.text, number)
        case "all kinds":
            log.debug("left out by LOG_LEVEL")
            log.warning("plain %d of %d", 1, 2, extra={"customer": "ana"})
            structured.info("structured", briefing=7, note="a b")
            try:
                raise LookupError("nothing there")
            except LookupError:
                structured.exception("it failed", step="lookup")
            log.error("wrong %d", "arguments")
            log.info("nul \0 and half a surrogate \ud800")
        case "fail":
            log.info("attempt %d of the job", attempt)
            raise LookupError("always")
        case "die":
            log.info("the last words")
            os.kill(os.getpid(), signal.SIGKILL)
        case "own thread":
            thread = threading.Thread(target=lambda: log.info("nobody's"))
            thread.start()
            thread.join()
            log.info("mine")


@handler(AsyncSay)
async def say_async(job: AsyncSay, ctx: Context) -> None:
    match job.what:
        case "nothing":
            pass
        case "in thread":
            await asyncio.to_thread(log.info, "from a thread of the loop")
        case "leave behind":
            leave_behind(job.gate)
            return
        case _:
            say(job, ctx.attempt)
    if job.gate:
        await pass_gate_async(job.gate)
        log.info("through the gate")
    if job.what == "say again":
        say(job, ctx.attempt)


def leave_behind(gate: int) -> None:
    """A task that outlives its job, and logs when it is over."""

    async def later() -> None:
        await pass_gate_async(gate)
        log.info("too late")

    task = asyncio.create_task(later())
    left_behind.add(task)
    task.add_done_callback(left_behind.discard)
    log.info("in time")


left_behind: set["asyncio.Task[None]"] = set()


@handler(ThreadSay)
def say_in_thread(job: ThreadSay, ctx: SyncContext) -> None:
    say(job, ctx.attempt)
    if job.gate:
        pass_gate(job.gate)
        log.info("through the gate")


@handler(ProcessSay, isolation="process")
def say_in_process(job: ProcessSay, ctx: SyncContext) -> None:
    say(job, ctx.attempt)
    if job.gate:
        pass_gate(job.gate)
        log.info("through the gate")
