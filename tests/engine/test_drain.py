"""SIGTERM loses nothing and costs nothing (docs/design rule 6). Each test ends a worker of its own."""

import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psutil
import pytest

from carafe import Client, State
from carafe.store.audit import Actor
from tests.engine.conftest import Gates, StartWorker, States, Words, workers
from tests.engine.jobs import DO, AsyncDo, NoOp, ProcessDo, ThreadDo
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
async def start_worker(
    client: Client, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StartWorker]:
    """Workers for as long as the test lasts."""
    async with workers(environment, tmp_path_factory) as start:
        yield start


@pytest.fixture(autouse=True)
async def empty(client: Client, database: Any, redis_connection: Any) -> None:
    """No job and no hint of the test before."""
    await database.execute("delete from carafe.jobs")
    redis_connection.delete("default")


async def state_of(worker: WorkerProcess, database: Any) -> str:
    return str(await database.fetchval("select state from carafe.workers where pid = $1", worker.pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_what_is_pushed_after_the_signal_stays_and_what_runs_finishes(
    client: Client,
    database: Any,
    redis_connection: Any,
    effects: Words,
    gate: Gates,
    start_worker: StartWorker,
    number: signal.Signals,
) -> None:
    worker = await start_worker()
    async with gate() as closed:
        running = [await client.enqueue(DO[mode](what="hold", gate=closed)) for mode in DO]
        for job in running:

            async def begun() -> bool:
                return await effects(job.id) == ["begun"]  # noqa: B023  awaited in this very turn

            await eventually(begun)
        worker.signal(number)
        await worker.drains()
        late = await client.enqueue_many([NoOp() for _ in range(20)])
        assert redis_connection.llen("default") == 20
    assert await worker.ended() == 0
    for job in running:
        record = await client.get(job.id)
        assert (record.state, record.attempt, record.result) == (State.SUCCEEDED, 1, "held")
        assert await effects(job.id) == ["begun", "finished"]
    assert redis_connection.llen("default") == 20
    for job in late:
        record = await client.get(job.id)
        assert (record.state, record.attempt, record.releases, record.started_at) == (State.QUEUED, 0, 0, None)
    assert await state_of(worker, database) == "stopped"
    assert "Traceback" not in worker.log


async def test_what_was_claimed_and_not_started_goes_back_unspent(
    client: Client, database: Any, redis_connection: Any, gate: Gates, start_worker: StartWorker
) -> None:
    worker = await start_worker(DRAIN_TIMEOUT="0.5")
    # It learns that these take no time, and takes many.
    await client.enqueue_many([NoOp() for _ in range(3_000)])
    await eventually(lambda: _none_live(database), within=30)
    async with gate() as number:
        await client.enqueue_many([NoOp(gate=number) for _ in range(300)])

        async def claimed() -> bool:
            return bool(await database.fetchval("select exists (select from carafe.jobs where state = 'running')"))

        await eventually(claimed)
        worker.signal()
        assert await worker.ended() == 0
        rows = await database.fetch("select state, attempt, releases from carafe.jobs")
        assert {(row["state"], row["attempt"]) for row in rows} == {("queued", 0)}
        assert len(rows) == 300
        # Only what a slot had begun counts as a release.
        assert sum(row["releases"] for row in rows) <= 5
        assert redis_connection.llen("default") >= 295
    assert await state_of(worker, database) == "stopped"


@pytest.mark.parametrize("mode", [*DO, "async, in a thread of the loop's"])
async def test_a_job_longer_than_the_grace_goes_back_unspent(
    client: Client, effects: Words, gate: Gates, start_worker: StartWorker, mode: str
) -> None:
    worker = await start_worker(DRAIN_TIMEOUT="0.3")
    children: list[psutil.Process] = []
    async with gate() as number:
        if mode in DO:
            job = await client.enqueue(DO[mode](what="hold", gate=number))
        else:
            job = await client.enqueue(AsyncDo(what="hold in thread", gate=number))

        async def begun() -> bool:
            return await effects(job.id) == ["begun"]

        await eventually(begun)
        children = psutil.Process(worker.pid).children(recursive=True)
        worker.signal()
        assert await worker.ended() == 0, worker.log
        record = await client.get(job.id)
        assert (record.state, record.attempt, record.releases, record.attempts) == (State.QUEUED, 0, 1, ())
        assert await effects(job.id) == ["begun"]
        assert not any(process.is_running() for process in children)
    assert worker.events("job released", job_id=str(job.id))


async def test_handlers_that_fill_the_loops_threads_do_not_hold_up_the_end(
    client: Client, database: Any, effects: Words, start_worker: StartWorker
) -> None:
    worker = await start_worker(DRAIN_TIMEOUT="0.3")
    job = await client.enqueue(AsyncDo(what="fill the loop's threads"))
    await eventually(lambda: _begun(effects, job.id))
    worker.signal()
    assert await worker.ended() == 0, worker.log
    record = await client.get(job.id)
    assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 1)
    assert await state_of(worker, database) == "stopped"


async def test_a_handler_that_blocks_the_loop_does_not_hold_up_the_end(
    client: Client, database: Any, effects: Words, start_worker: StartWorker
) -> None:
    worker = await start_worker(DRAIN_TIMEOUT="0.3")
    job = await client.enqueue(AsyncDo(what="block for ever"))
    await eventually(lambda: _begun(effects, job.id))
    worker.signal()
    assert await worker.ended() == 0, worker.log
    assert worker.events("ending while a handler blocks the event loop: the steward will rescue the worker's jobs")
    # It has said goodbye all the same, so that its jobs are rescued at once.
    assert await state_of(worker, database) == "stopped"


async def _begun(effects: Words, job_id: UUID) -> bool:
    return await effects(job_id) == ["begun"]


async def test_a_released_job_is_run_by_the_next_worker(
    client: Client, effects: Words, start_worker: StartWorker, redis_connection: Any, steward: Any
) -> None:
    first = await start_worker(DRAIN_TIMEOUT="0.3")
    job = await client.enqueue(AsyncDo(what="snooze", number=0))
    await client.wait(job.id, timeout=20)
    held = await client.enqueue(ProcessDo(what="for ever"))

    async def begun() -> bool:
        return bool(await effects(held.id))

    await eventually(begun)
    first.signal()
    assert await first.ended() == 0
    await start_worker()

    async def again() -> bool:
        return len(await effects(held.id)) == 2

    await eventually(again, within=20)
    await client.cancel(held.id)
    record = await client.wait(held.id, timeout=20)
    assert (record.state, record.releases) == (State.CANCELLED, 1)


async def test_a_second_signal_hurries(client: Client, becomes: States, start_worker: StartWorker) -> None:
    worker = await start_worker(DRAIN_TIMEOUT="600")
    jobs = [await client.enqueue(kind(what="for ever")) for kind in (AsyncDo, ProcessDo)]
    jobs.append(await client.enqueue(ThreadDo(what="spin", number=1)))
    for job in jobs:
        await becomes(job.id, State.RUNNING)
    # Claimed is not begun: only what a slot has begun counts as a release.
    await eventually(lambda: all(worker.events("job started", job_id=str(job.id)) for job in jobs))
    worker.signal()
    await worker.drains()
    worker.signal()
    assert await worker.ended() == 0
    for job in jobs[:2]:
        record = await client.get(job.id)
        assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 1)
    # The thread returned when it was asked to: what is done is done.
    assert (await client.get(jobs[2].id)).state is State.SUCCEEDED


async def _none_live(database: Any) -> bool:
    return not await database.fetchval("select exists (select from carafe.jobs)")


async def test_an_operator_drains_one_worker_and_the_others_go_on(
    client: Client, database: Any, effects: Words, gate: Gates, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    async with gate() as closed:
        job = await client.enqueue(AsyncDo(what="hold", gate=closed))

        async def begun() -> bool:
            return await effects(job.id) == ["begun"]

        await eventually(begun)
        other = await start_worker()
        worker_id = await database.fetchval("select id from carafe.workers where pid = $1", worker.pid)
        await client.drain_worker(worker_id, by=Actor("ana", "api"))
        await worker.drains()
        assert await state_of(other, database) == "running"
        # The node goes too: its first signal does not count as a second one, and the job still has its time.
        await client.drain_worker(worker_id, by=Actor("ana", "api"))
        worker.signal()
        await eventually(lambda: bool(worker.events_like("asked to end during a drain that an operator requested")))
        assert not worker.events("running jobs are asked to stop now")
    assert await worker.ended() == 0
    record = await client.get(job.id)
    assert (record.state, record.attempt, record.result) == (State.SUCCEEDED, 1, "held")
    assert await state_of(worker, database) == "stopped"
    later = await client.enqueue(NoOp())
    assert (await client.wait(later.id, timeout=20)).state is State.SUCCEEDED
    await other.stop()
