"""A receiver, and processes that send it their spans."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID

import pytest

from carafe import Client
from tests.engine.worker_process import WorkerProcess
from tests.tracing.receiver import Receiver
from tests.tracing.web import WebProcess
from tests.waiting import eventually

T = TypeVar("T")

StartWeb = Callable[..., WebProcess]
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """The module's receiver."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def environment(database_url: str, redis_url: str, receiver: Receiver) -> dict[str, str]:
    """What the processes of this module read: everything is traced, and sent soon."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "tests.tracing.jobs",
        "HANDLER_MODULES": "tests.tracing.handlers",
        "LOG_FORMAT": "json",
        "PORT": "0",
        "PROBE_PORT": "0",
        "METRICS_PORT": "0",
        "DASHBOARD": "false",
        "JOB_RETRY_BASE": "0.05",
        "TRACING_SAMPLE_RATIO": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }


@pytest.fixture(scope="module")
async def client(database_url: str, redis_url: str) -> AsyncIterator[Client]:
    """A client that does not trace."""
    async with Client.connect(database_url=database_url, redis_url=redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def start(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts a process; settings given as keywords come on top. Ends what is left."""
    started: list[WorkerProcess] = []

    def begin(process: type[WorkerProcess], **settings: str) -> Any:
        started.append(process({**environment, **settings}, tmp_path_factory.mktemp("process")))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
def start_web(start: Callable[..., Any]) -> StartWeb:
    """Starts web processes."""
    return lambda **settings: start(WebProcess, **settings)


@pytest.fixture(scope="module")
def start_worker(start: Callable[..., Any]) -> StartWorker:
    """Starts workers."""
    return lambda **settings: start(WorkerProcess, **settings)


def lines(process: WorkerProcess, **fields: object) -> list[dict[str, Any]]:
    """The lines of a process's log that have these values."""
    found = []
    for line in process.log.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if all(event.get(name) == value for name, value in fields.items()):
            found.append(event)
    return found


async def trace_of(client: Client, job_id: UUID) -> str | None:
    """What a job's row says of its trace."""
    async with client.database.connection() as connection:
        return await connection.fetchval(  # type: ignore[no-any-return]
            "select trace from carafe.jobs where id = $1 union all select trace from carafe.jobs_ended where id = $1", job_id
        )


async def soon(check: Callable[[], T]) -> T:
    """`eventually`, with patience for several processes on a busy machine."""
    return await eventually(check, 30.0)
