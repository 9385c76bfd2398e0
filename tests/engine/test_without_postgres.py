"""A worker that cannot reach Postgres takes no hints that other workers could use: they stay in the list, and the worker
drains at once."""

from collections.abc import Callable, Iterator

import pytest
import redis

from carafe import Client, State
from carafe.dev.embedded import free_port
from carafe.jobs.queue_name import QUEUE
from tests.engine.conftest import StartWorker
from tests.engine.jobs import NoOp
from tests.engine.worker_process import WorkerProcess
from tests.links import Way, way_to
from tests.waiting import eventually

pytestmark = pytest.mark.process

JOBS = 7


@pytest.fixture
def postgres(database_url: str) -> Iterator[Way]:
    with way_to(database_url) as way:
        yield way
        way.heal_without_a_memory()


@pytest.fixture
def hints(redis_connection: "redis.Redis") -> Callable[[], int]:
    """How many stand in the list."""
    return lambda: int(redis_connection.llen(QUEUE))


async def test_a_worker_that_never_reached_postgres_takes_no_hint_and_drains_clean(
    client: Client,
    environment: dict[str, str],
    start_worker: StartWorker,
    tmp_path_factory: pytest.TempPathFactory,
    hints: Callable[[], int],
) -> None:
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    worker = WorkerProcess(environment | {"DATABASE_URL": nowhere}, tmp_path_factory.mktemp("worker"))
    try:
        await eventually(lambda: worker.events("worker ready") and worker.events_like("heartbeat failed"), within=30)
        jobs = await client.enqueue_many([NoOp() for _ in range(JOBS)])
        await worker.stop()
        assert worker.events("drained", clean=True)
        assert not worker.events_like("claim failed")
        assert hints() == JOBS
    finally:
        worker.kill()
    healthy = await start_worker()
    for job in jobs:
        assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
    await healthy.stop()


async def test_a_worker_that_loses_postgres_gives_back_what_it_has_not_begun(
    client: Client, start_worker: StartWorker, postgres: Way, hints: Callable[[], int]
) -> None:
    cut_off = await start_worker(DATABASE_URL=postgres.url)
    postgres.swallow()
    jobs = await client.enqueue_many([NoOp() for _ in range(JOBS)])
    await eventually(lambda: cut_off.events("Postgres cannot be used; probing it until it can"), within=60)
    await eventually(lambda: hints() == JOBS, within=60)
    await start_worker()
    for job in jobs:
        record = await client.wait(job.id, timeout=30)
        assert (record.state, record.attempt) == (State.SUCCEEDED, 1)
    await cut_off.stop()
    assert cut_off.events("drained", clean=True)
