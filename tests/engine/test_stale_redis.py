"""Redis comes back with an older append-only file: it has the hints of ended jobs again, and lacks those of queued jobs."""

import asyncio
import re
from collections.abc import Iterator

import pytest
import redis

from carafe import Client, State
from carafe.jobs.queue_name import QUEUE
from carafe.steward.steward import Steward
from chaos.servers import Valkey
from tests.engine.conftest import StartWorker, Words
from tests.engine.jobs import Effect
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

JOBS = 30


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server of this module's own, with a file that can be put back."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.restart_on_the_same_port()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_url(valkey: Valkey) -> str:
    return valkey.url


def stale_hints(worker: WorkerProcess) -> int:
    """Hints that this worker has dropped because they led to no claim."""
    found = re.search(r'^carafe_hints_total\{.*outcome="stale".*\} (\S+)$', worker.probe("/metrics")[1], re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def test_an_older_file_costs_no_job_and_runs_none_twice(
    client: Client, steward: Steward, valkey: Valkey, start_worker: StartWorker, effects: Words
) -> None:
    old = await client.enqueue_many([Effect(word="once") for _ in range(JOBS)])
    await asyncio.to_thread(valkey.remember)
    worker = await start_worker()
    for job in old:
        assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
    await worker.stop()
    new = await client.enqueue_many([Effect(word="once") for _ in range(JOBS)])
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(valkey.go_back)
    await asyncio.to_thread(valkey.restart_on_the_same_port)
    with redis.Redis.from_url(valkey.url) as connection:
        hints = b"".join(connection.lrange(QUEUE, 0, -1)).decode()
    assert all(str(job.id) in hints for job in old)
    assert not any(str(job.id) in hints for job in new)

    worker = await start_worker()

    for job in new:
        record = await client.wait(job.id, timeout=30)
        assert (record.state, record.attempt) == (State.SUCCEEDED, 1)
    for job in (*old, *new):
        assert await effects(job.id) == ["once"]
    await eventually(lambda: stale_hints(worker) == JOBS)
    await worker.stop()
