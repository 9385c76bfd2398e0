"""Redis and Postgres come and go under a running worker, on servers of this module's own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.dev.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey, free_port
from carafe.jobs.errors import Unavailable
from carafe.jobs.records import JobRecord
from carafe.store.database import migrate
from tests.engine.conftest import States, Words
from tests.engine.jobs import Effect, OnRedis
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Servers that a test may stop and start again on the same ports."""
    folder: Path = tmp_path_factory.mktemp("own servers")
    own = EmbeddedServers(
        EmbeddedPostgres(folder / "postgres", port=free_port(), durable=False),
        EmbeddedValkey(folder / "valkey", port=free_port(), persist=False),
    )
    own.postgres.start()
    own.valkey.start()
    asyncio.run(migrate(own.database_url))
    yield own
    own.stop()


@pytest.fixture(scope="module")
def database_url(servers: EmbeddedServers) -> str:
    return servers.database_url


@pytest.fixture(scope="module")
def redis_url(servers: EmbeddedServers) -> str:
    return servers.redis_url


async def ended(client: Client, job_id: UUID, within: float = 30.0) -> JobRecord:
    """A job's record once it has ended, however often Postgres does not answer meanwhile."""
    record: JobRecord | None = None

    async def check() -> bool:
        nonlocal record
        try:
            record = await client.get(job_id)
        except Unavailable:
            return False
        return record.state.ended

    await eventually(check, within)
    assert record is not None
    return record


async def test_a_worker_consumes_again_after_redis_was_away(
    client: Client, servers: EmbeddedServers, worker: WorkerProcess, effects: Words
) -> None:
    before = await client.enqueue(Effect(word="before"))
    assert (await ended(client, before.id)).state is State.SUCCEEDED
    await asyncio.to_thread(servers.valkey.stop)
    await eventually(lambda: worker.events("Redis is away, trying again every second"))
    # Accepted all the same: its hint is pushed later.
    meanwhile = await client.enqueue(Effect(word="meanwhile"))
    assert worker.probe("/livez")[0] == 200
    await asyncio.to_thread(servers.valkey.start)
    assert (await ended(client, meanwhile.id)).state is State.SUCCEEDED
    after = await client.enqueue(Effect(word="after"))
    assert (await ended(client, after.id)).state is State.SUCCEEDED
    for job, word in ((before, "before"), (meanwhile, "meanwhile"), (after, "after")):
        assert await effects(job.id) == [word]
    assert worker.process.poll() is None


async def test_a_wiped_redis_costs_no_job(client: Client, redis_connection: Any, effects: Words) -> None:
    jobs = await client.enqueue_many([Effect(word="once") for _ in range(500)])
    redis_connection.flushall()
    for job in jobs:
        assert (await ended(client, job.id)).state is State.SUCCEEDED
        assert await effects(job.id) == ["once"]


async def test_what_finished_while_postgres_was_away_is_kept_and_written(
    client: Client, servers: EmbeddedServers, worker: WorkerProcess, redis_connection: Any, becomes: States
) -> None:
    job = await client.enqueue(OnRedis(gate="outage"))
    await becomes(job.id, State.RUNNING)
    await asyncio.to_thread(servers.postgres.stop)
    redis_connection.rpush("outage", "go")
    await eventually(lambda: worker.events("ends not written yet, trying again"))
    assert worker.probe("/livez")[0] == 200
    await asyncio.to_thread(servers.postgres.start)
    record = await ended(client, job.id)
    assert (record.state, record.result, record.attempt, record.attempts) == (State.SUCCEEDED, "released", 1, ())
    after = await client.enqueue(Effect(word="after"))
    assert (await ended(client, after.id)).state is State.SUCCEEDED
