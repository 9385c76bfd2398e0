"""`/livez` and `/readyz` notice and name threads, slots and loops that have ended or are blocked."""

from typing import Any

import pytest

from carafe import Client, State
from carafe.queue.redis_rights import RUNNING
from tests.engine.conftest import Gates, StartWorker
from tests.engine.jobs import AsyncDo, NoOp
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {"HANDLER_MODULES": "tests.engine.handlers,tests.engine.faults", "WORKER_CONCURRENCY": "2"}


async def happens(redis_connection: Any, fault: str) -> None:
    """Make it happen in the only worker there is."""
    redis_connection.rpush("faults", fault)
    await eventually(lambda: redis_connection.lpop("faults done") == fault.encode())


def says(worker: WorkerProcess, words: str) -> bool:
    """Whether both probes fail for this reason."""
    return all(status == 503 and words in said for status, said in (worker.probe(path) for path in ("/livez", "/readyz")))


async def test_an_error_that_nobody_foresaw_ends_neither_the_heartbeat_nor_the_telling_of_the_autoscaler(
    client: Client, start_worker: StartWorker, redis_connection: Any, gate: Gates
) -> None:
    worker = await start_worker()
    await happens(redis_connection, "heartbeat_stumbles")
    await eventually(lambda: worker.events("heartbeat goes on"), 30)
    (told,) = worker.events("heartbeat failed: unexpected error, trying again")
    assert "a fault of ours" in str(told)

    await happens(redis_connection, "scaling_stumbles")
    async with gate() as closed:
        job = await client.enqueue(AsyncDo(what="hold", gate=closed))
        await eventually(lambda: redis_connection.zscore(RUNNING, str(job.id)) is not None, 30)
    assert len(worker.events("running jobs were not published for the autoscaler: unexpected error, trying again")) == 1
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert worker.probe("/livez") == (200, "ok")
    await worker.stop()


async def test_a_heartbeat_that_has_ended_is_seen(start_worker: StartWorker, redis_connection: Any) -> None:
    worker = await start_worker()
    await happens(redis_connection, "heartbeat_dies")
    await eventually(lambda: says(worker, "the heartbeat has sent nothing for"), 30)
    await eventually(lambda: worker.events("the heartbeat has ended: other workers will get this worker's jobs"))
    worker.kill()


async def test_a_dead_slot_is_seen(client: Client, start_worker: StartWorker, redis_connection: Any, gate: Gates) -> None:
    worker = await start_worker()
    async with gate() as closed:
        job = await client.enqueue(AsyncDo(what="hold", gate=closed))
        # Claimed is not yet begun.
        await eventually(lambda: worker.events("job started", job_id=str(job.id)))
        await happens(redis_connection, "slot_dies")
        await eventually(lambda: says(worker, "1 of 2 slots are dead: their jobs' tasks or threads have ended"), 30)
    # Its handler was not dead after all.
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: worker.probe("/livez") == (200, "ok"))
    await worker.stop()


async def test_an_engine_that_has_ended_is_seen(start_worker: StartWorker, redis_connection: Any) -> None:
    worker = await start_worker()
    await happens(redis_connection, "engine_ends")
    await eventually(lambda: says(worker, "the engine has ended"))
    worker.kill()


async def test_the_job_that_blocks_the_loop_is_named(
    client: Client, start_worker: StartWorker, redis_connection: Any, gate: Gates
) -> None:
    worker = await start_worker()
    await happens(redis_connection, "loop_is_blocked")
    async with gate() as closed:
        job = await client.enqueue(AsyncDo(what="block", gate=closed))
        await eventually(lambda: says(worker, f"the handler of job {job.id} (engine.async) has blocked the event loop"), 30)
    await eventually(lambda: worker.probe("/livez") == (200, "ok"), 30)
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    other = await client.enqueue(NoOp())
    assert (await client.wait(other.id, timeout=20)).state is State.SUCCEEDED
    await worker.stop()


async def test_a_worker_whose_consumer_has_left_the_queue_is_alive_and_not_ready(
    client: Client, start_worker: StartWorker, redis_connection: Any
) -> None:
    worker = await start_worker()
    assert (await client.wait((await client.enqueue(NoOp())).id, timeout=30)).state is State.SUCCEEDED
    await happens(redis_connection, "consumer_leaves")
    status, said = worker.probe("/readyz")
    assert (status, worker.probe("/livez")) == (503, (200, "ok"))
    assert "Celery's consumer has left the queue 'default'" in said
