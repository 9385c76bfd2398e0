"""A job that takes too long is stopped in the way that its isolation mode allows, and its attempt is spent. The worker has
one slot, so that a slot that stays occupied is noticed."""

import os
import sys
from typing import Any

import psutil
import pytest

from carafe import Client, State
from tests.engine.conftest import ClientWith, Gates, StartWorker, States, Words
from tests.engine.jobs import DO, AsyncDo, NoOp, ProcessDo, Small, ThreadDo
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]

TIMEOUT = 0.5


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {"WORKER_CONCURRENCY": "1"}


@pytest.fixture(scope="module")
def hasty(client_with: ClientWith) -> Client:
    """Its jobs have half a second and one attempt."""
    return client_with(timeout=TIMEOUT, max_retries=0)


@pytest.fixture(scope="module")
def once(client_with: ClientWith) -> Client:
    """Its jobs have one attempt."""
    return client_with(max_retries=0)


def timed_out(record: Any) -> None:
    assert (record.state, record.attempt) == (State.DEAD, 1)
    (failed,) = record.attempts
    assert (failed.cause, failed.error_class) == ("timeout", "TimeoutError")
    assert failed.error == "the attempt took longer than its timeout of 0.5 s"
    assert (failed.ended_at - failed.started_at).total_seconds() >= TIMEOUT


async def test_an_async_handler_is_cancelled(hasty: Client) -> None:
    job = await hasty.enqueue(AsyncDo(what="for ever"))
    timed_out(await hasty.wait(job.id, timeout=20))


async def test_one_that_swallows_the_cancellation_is_cancelled_again(hasty: Client, effects: Words) -> None:
    job = await hasty.enqueue(AsyncDo(what="swallow"))
    timed_out(await hasty.wait(job.id, timeout=20))
    assert await effects(job.id) == ["swallowed"]


async def test_a_thread_keeps_its_slot_and_claim_until_it_returns(
    hasty: Client, client: Client, database: Any, gate: Gates
) -> None:
    async with gate() as number:
        job = await hasty.enqueue(ThreadDo(what="hold", gate=number))

        async def overrun() -> bool:
            return bool(
                await database.fetchval(
                    "select deadline_at + interval '1 second' < now() from carafe.jobs where id = $1", job.id
                )
            )

        await eventually(overrun)
        behind = await client.enqueue(NoOp())
        before = await database.fetchval("select max(beat_at) from carafe.workers")

        async def beaten() -> bool:
            return bool(await database.fetchval("select max(beat_at) > $1 from carafe.workers", before))

        await eventually(beaten)
        assert (await client.get(job.id)).state is State.RUNNING
        assert (await client.get(behind.id)).state is State.QUEUED
    timed_out(await hasty.wait(job.id, timeout=20))
    assert (await client.wait(behind.id, timeout=20)).state is State.SUCCEEDED


async def test_a_process_is_killed_in_the_midst_of_a_loop(hasty: Client, worker: WorkerProcess) -> None:
    job = await hasty.enqueue(ProcessDo(what="spin"))
    timed_out(await hasty.wait(job.id, timeout=20))
    # The one that waits for the next job may remain.
    await eventually(lambda: len(psutil.Process(worker.pid).children()) <= 1)


async def test_a_process_is_held_to_its_memory_limit(once: Client) -> None:
    modest = await once.enqueue(Small(what="eat", number=8 * 1024 * 1024))
    greedy = await once.enqueue(Small(what="eat", number=256 * 1024 * 1024))
    assert (await once.wait(modest.id, timeout=20)).result == 8 * 1024 * 1024
    record = await once.wait(greedy.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "MemoryError")
    assert record.error == "out of memory: the job's process may grow by 64 MiB"
    assert record.attempts[0].cause == "error"


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("exit", "the job's process exited with code 7 before it had answered"),
        ("segfault", "the job's process was killed by SIGSEGV"),
    ],
)
async def test_a_process_that_dies_fails_its_attempt_and_says_how(once: Client, what: str, how: str) -> None:
    job = await once.enqueue(ProcessDo(what=what))
    record = await once.wait(job.id, timeout=20)
    (failed,) = record.attempts
    assert (record.state, failed.cause, failed.error_class, failed.error) == (State.DEAD, "crash", "ChildDied", how)


async def test_a_process_shares_nothing_with_the_worker(once: Client, worker: WorkerProcess) -> None:
    jobs = [await once.enqueue(ProcessDo(what="pid")) for _ in range(2)]
    first, second = [(await once.wait(job.id, timeout=20)).result for job in jobs]
    assert len({first, second, worker.pid}) == 3


@pytest.mark.parametrize("mode", DO)
async def test_a_job_after_a_stopped_one_runs_as_ever(once: Client, hasty: Client, mode: str) -> None:
    stopped = await hasty.enqueue(AsyncDo(what="for ever"))
    job = await once.enqueue(DO[mode](what="dict"))
    timed_out(await hasty.wait(stopped.id, timeout=20))
    assert (await once.wait(job.id, timeout=20)).state is State.SUCCEEDED


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
async def test_children_die_with_a_worker_that_is_killed(
    client: Client, start_worker: StartWorker, becomes: States, effects: Words, worker: WorkerProcess, gate: Gates
) -> None:
    async with gate() as number:
        # The other worker's only slot is taken, so that this one gets the job.
        busy = await client.enqueue(NoOp(gate=number))
        await becomes(busy.id, State.RUNNING)
        second = await start_worker()
        job = await client.enqueue(ProcessDo(what="for ever"))
        word = await eventually(lambda: _first(effects, job.id))
        child = int(word.removeprefix("pid "))
        assert psutil.Process(child).ppid() == second.pid
        children = psutil.Process(second.pid).children()
        second.kill()
        await eventually(lambda: not any(_lives(process) for process in children))
        await client.cancel(job.id)
    assert os.getpid() != child


async def _first(effects: Words, job_id: Any) -> str:
    words = await effects(job_id)
    return words[0] if words else ""


def _lives(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
