"""A web process with the steward, and workers, on a database of the module's own."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from carafe.telemetry.metrics import LED
from tests.metrics.processes import Process
from tests.waiting import eventually

Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="module")
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """What the processes read."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "tests.metrics.jobs",
        "HANDLER_MODULES": "tests.metrics.handlers",
        "WEB_APPLICATION": "tests.metrics.web:create",
        "MIGRATIONS": "",
        "LOG_FORMAT": "json",
        "PORT": "0",
        "DASHBOARD_PORT": "0",
        "PROBE_PORT": "0",
        "JOB_RETRY_BASE": "0.05",
        "DRAIN_TIMEOUT": "10",
    }


@pytest.fixture(scope="module")
async def start(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Start]:
    """Starts `carafe` with these arguments, and waits until its metrics can be read. Ends what is left."""
    started: list[Process] = []

    async def begin(*command: str, **settings: str) -> Process:
        process = Process(environment | settings, tmp_path_factory.mktemp("process"), *command)
        started.append(process)
        await eventually(process.is_up, 40)
        return process

    yield begin
    for process in started:
        process.kill()


@pytest.fixture(scope="module")
async def web(start: Start) -> Process:
    """The web process, which carries the steward: it leads, and shows what the leader has found."""
    web = await start("serve")
    led = {metric.name for metric in LED}
    await eventually(lambda: led <= {name for name, _ in web.samples()}, 60)
    return web


@pytest.fixture(scope="module")
async def worker(start: Start, web: Process) -> Process:
    """A worker that does not lead."""
    return await start("serve", "--worker", STEWARD="false")


@pytest.fixture(scope="module")
async def api(web: Process) -> AsyncIterator[httpx.AsyncClient]:
    """The job API of the web process."""
    async with httpx.AsyncClient(base_url=f"{web.url}/api/v1", timeout=30) as client:
        yield client
