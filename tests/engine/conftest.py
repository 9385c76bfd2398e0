"""A worker process, a client and a steward on a database of the module's own.

A module that needs other settings overrides `worker_settings`; one that needs its own workers starts them by
`start_worker`.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import redis
from celery import Celery

from carafe import Client, State
from carafe.jobs.new_job import Limits
from carafe.jobs.records import JobRecord
from carafe.steward.steward import Steward
from tests.engine.redis_keys import undocumented
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

StartWorker = Callable[..., Awaitable[WorkerProcess]]
Gates = Callable[[], AbstractAsyncContextManager[int]]

_gates = itertools.count(1)


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    """Settings of this module's workers, beside the usual ones."""
    return {}


@pytest.fixture(scope="module")
def environment(database_url: str, redis_url: str, worker_settings: dict[str, str]) -> dict[str, str]:
    """What the workers of this module read."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "tests.engine.jobs",
        "HANDLER_MODULES": "tests.engine.handlers",
        "LOG_FORMAT": "json",
        "PROBE_PORT": "0",
        "JOB_RETRY_BASE": "0.05",
        "DRAIN_TIMEOUT": "10",
        "STEWARD": "false",
    } | worker_settings


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """The module's database, with the table in which handlers and hooks leave their effects."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=10) as pool:
        await pool.execute(
            "create table effects (id bigint generated always as identity, job_id uuid, word text, at timestamptz"
            " default clock_timestamp())"
        )
        yield pool


@pytest.fixture(scope="module")
def documented_keys_only(redis_url: str) -> Iterator[None]:
    """At the end no key is left in Redis without a time to live but the documented ones."""
    yield
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        assert undocumented(connection) == {}


@pytest.fixture(scope="module")
def redis_connection(redis_url: str) -> Iterator["redis.Redis"]:
    """The module's Redis."""
    with redis.Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture(scope="module")
async def client(
    database: "asyncpg.Pool[asyncpg.Record]", database_url: str, redis_url: str, documented_keys_only: None
) -> AsyncIterator[Client]:
    async with Client.connect(database_url=database_url, redis_url=redis_url) as client:
        yield client


ClientWith = Callable[..., Client]


@pytest.fixture(scope="module")
def client_with(client: Client) -> ClientWith:
    """The module's client with other limits, such as a timeout in seconds: `client_with(timeout=0.3, max_retries=0)`."""

    def make(**limits: Any) -> Client:
        return Client(client.database, client.queue, limits=Limits(**limits))

    return make


@pytest.fixture(scope="module")
async def steward(client: Client) -> AsyncIterator[Steward]:
    """The upkeep: promotes due jobs, repairs hints."""
    steward = Steward(client.database, client.queue, name="tests")
    steward.start()
    yield steward
    await steward.stop()


@asynccontextmanager
async def workers(environment: dict[str, str], folders: pytest.TempPathFactory) -> AsyncIterator[StartWorker]:
    """Starts workers and waits until they are ready; settings given as keywords come on top. Ends what is left."""
    started: list[WorkerProcess] = []

    async def start(**settings: str) -> WorkerProcess:
        worker = WorkerProcess(environment | settings, folders.mktemp("worker"))
        started.append(worker)
        return await worker.ready()

    try:
        yield start
    finally:
        for worker in started:
            worker.kill()


@pytest.fixture(scope="module")
async def start_worker(
    client: Client, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StartWorker]:
    """Workers for as long as the module lasts."""
    async with workers(environment, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
async def worker(start_worker: StartWorker, steward: Steward) -> AsyncIterator[WorkerProcess]:
    """The module's worker, ended in order; with a steward beside it."""
    worker = await start_worker()
    yield worker
    await worker.stop()


@pytest.fixture
def gate(database: "asyncpg.Pool[asyncpg.Record]") -> Gates:
    """Closed gates: `async with gate() as number` holds handlers that wait for `number`, and opens it at the end."""

    @asynccontextmanager
    async def closed() -> AsyncIterator[int]:
        number = next(_gates)
        async with database.acquire() as connection:
            await connection.execute("select pg_advisory_lock($1)", number)
            try:
                yield number
            finally:
                await connection.execute("select pg_advisory_unlock($1)", number)

    return closed


Words = Callable[[UUID], Awaitable[list[str]]]


@pytest.fixture
def effects(database: "asyncpg.Pool[asyncpg.Record]") -> Words:
    """What a job has left in the table of effects, in order."""

    async def of(job_id: UUID) -> list[str]:
        rows = await database.fetch("select word from effects where job_id = $1 order by id", job_id)
        return [row["word"] for row in rows]

    return of


States = Callable[..., Awaitable[JobRecord]]


@pytest.fixture
def becomes(client: Client) -> States:
    """Waits until a job is in a state; its record."""

    async def wait(job_id: UUID, state: State, within: float = 10.0) -> JobRecord:
        record = None

        async def check() -> bool:
            nonlocal record
            record = await client.get(job_id)
            assert record.state is state, record
            return True

        await eventually(check, within)
        assert record is not None
        return record

    return wait


Counts = Callable[[], dict[str, int]]


@pytest.fixture(scope="module")
def counts(redis_url: str) -> Counts:
    """What the module's only worker has counted, as `celery inspect stats` tells."""

    def ask() -> dict[str, int]:
        with Celery(broker=redis_url, set_as_current=False) as application:
            answers = application.control.inspect(timeout=10, limit=1).stats() or {}
        (answer,) = answers.values()
        found: dict[str, int] = answer["pool"]["counts"]
        return found

    return ask
