"""A cancelled running job is stopped in the way that its isolation mode allows; a cancelled waiting job never starts."""

import psutil
import pytest

from carafe import Client, State
from tests.engine.conftest import Gates, States, Words
from tests.engine.jobs import AsyncDo, NoOp, ProcessDo, ThreadDo
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]


def cancelled(record: object) -> None:
    assert getattr(record, "state", None) is State.CANCELLED
    assert getattr(record, "error", None) == "cancelled by an operator"
    assert getattr(record, "attempts", None) == ()


async def test_an_async_handler_is_cancelled_where_it_waits(client: Client, becomes: States) -> None:
    job = await client.enqueue(AsyncDo(what="for ever"))
    await becomes(job.id, State.RUNNING)
    assert (await client.cancel(job.id)).cancel_requested_at is not None
    cancelled(await client.wait(job.id, timeout=10))


async def test_a_thread_sees_it_in_its_context(client: Client, becomes: States) -> None:
    job = await client.enqueue(ThreadDo(what="spin", number=1))
    await becomes(job.id, State.RUNNING)
    await client.cancel(job.id)
    cancelled(await client.wait(job.id, timeout=10))


async def test_a_process_is_killed(client: Client, effects: Words) -> None:
    job = await client.enqueue(ProcessDo(what="for ever"))

    async def pid() -> int:
        words = await effects(job.id)
        return int(words[0].removeprefix("pid ")) if words else 0

    child = await eventually(pid)
    await client.cancel(job.id)
    cancelled(await client.wait(job.id, timeout=10))
    await eventually(lambda: not psutil.pid_exists(child))


async def test_a_waiting_job_never_starts(client: Client, gate: Gates, worker: WorkerProcess, becomes: States) -> None:
    async with gate() as number:
        busy = [await client.enqueue(NoOp(gate=number)) for _ in range(5)]
        for job in busy:
            await becomes(job.id, State.RUNNING)
        waiting = await client.enqueue(NoOp())
        await client.cancel(waiting.id)
        # In the first 100 ms of the five the worker may have claimed it ahead: it is cancelled when it goes back unclaimed.
        cancelled(await client.wait(waiting.id, timeout=10))
    for job in busy:
        assert (await client.wait(job.id, timeout=10)).state is State.SUCCEEDED
    after = await client.enqueue(NoOp())
    await client.wait(after.id, timeout=10)
    assert worker.events("job started", job_id=str(waiting.id)) == []
