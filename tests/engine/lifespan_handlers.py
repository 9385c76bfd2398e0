"""Handlers that use worker lifespans (HANDLER_MODULES). LIFESPANS names a file for what happens, MISBEHAVIOUR what goes
wrong."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from carafe import Context, SyncContext, handler, worker_lifespan
from tests.engine.lifespan_jobs import UseAsync, UseAsyncInProcess, UseInProcess, UseInThread

MISBEHAVIOUR = os.environ.get("MISBEHAVIOUR", "")
WORKER = int(os.environ.setdefault("LIFESPAN_WORKER", str(os.getpid())))
"""The worker's process id, in its children too."""


def note(what: str) -> None:
    """Write down that this has happened in this process."""
    with open(os.environ["LIFESPANS"], "a") as file:
        file.write(f"{'worker' if os.getpid() == WORKER else 'child'}: {what}\n")


@dataclass
class Clients:
    """What the handlers share: it works on the loop that made it."""

    loop: asyncio.AbstractEventLoop
    uses: int = 0


@worker_lifespan
async def clients() -> AsyncIterator[Clients]:
    """Shared clients."""
    if MISBEHAVIOUR == "fails at its start" or (MISBEHAVIOUR == "fails in children" and os.getpid() != WORKER):
        raise ConnectionRefusedError("nobody listens")
    if MISBEHAVIOUR == "is cancelled at its start":
        raise asyncio.CancelledError
    if MISBEHAVIOUR == "blocks at its start":
        note("clients block")
        threading.Event().wait()
    async with asyncio.TaskGroup() as group:  # has to be left by the task that has entered it
        ticks = group.create_task(asyncio.Event().wait())
        note("clients entered")
        if MISBEHAVIOUR == "ends early" and os.getpid() == WORKER:
            group.create_task(fails_when_told())
        yield Clients(asyncio.get_running_loop())
        ticks.cancel()
    if MISBEHAVIOUR == "blocks at its end in children" and os.getpid() != WORKER:
        note(f"{os.getpid()} blocks")
        threading.Event().wait()
    if MISBEHAVIOUR == "fails at its end":
        raise LookupError("cannot be closed")
    note("clients left")


async def fails_when_told() -> None:
    """Fails once a job has run."""
    await told.wait()
    raise ConnectionResetError("the pool is lost")


told = asyncio.Event()


@worker_lifespan
@contextmanager
def model() -> Iterator[dict[str, int]]:
    """A model, entered and left in one thread."""
    thread = threading.get_ident()
    if MISBEHAVIOUR == "starts for ever in children" and os.getpid() != WORKER:
        note(f"{os.getpid()} begins")
        threading.Event().wait()
    if MISBEHAVIOUR == "starts for ever":
        note("model begins")
        threading.Event().wait()
    note("model entered")
    yield {"size": 3}
    if MISBEHAVIOUR == "ends for ever":
        note("model does not end")
        threading.Event().wait()
    note("model left" if threading.get_ident() == thread else "model left by another thread")


@handler(UseAsync)
async def use_async(job: UseAsync, ctx: Context) -> list[object]:
    shared = ctx.lifespan(clients)
    shared.uses += 1
    told.set()
    return [shared.loop is asyncio.get_running_loop(), shared.uses, ctx.lifespan(model)["size"]]


@handler(UseInThread)
def use_in_thread(job: UseInThread, ctx: SyncContext) -> list[object]:
    shared = ctx.lifespan(clients)
    shared.uses += 1
    return [shared.loop.is_running(), shared.uses, ctx.lifespan(model)["size"]]


@handler(UseInProcess, isolation="process")
def use_in_process(job: UseInProcess, ctx: SyncContext) -> list[object]:
    note("job runs")
    return [True, ctx.lifespan(clients).uses + 1, ctx.lifespan(model)["size"]]


handler(UseAsyncInProcess, isolation="process")(use_async)  # type: ignore[arg-type]  # of another class, with the same fields
