"""What only a running worker can show. `carafe serve --worker` is a process of its own; the client is the same as ever."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carafe import Client, JobRecord, State
from tests.engine.worker_process import WorkerProcess
from tests.tutorial.long_jobs import Render
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
async def worker(
    carafe_client: Client, carafe_database_url: str, carafe_redis_url: str, tmp_path: Path
) -> AsyncIterator[None]:
    """A worker, told by settings alone what to run and where."""
    settings = {
        "DATABASE_URL": carafe_database_url,
        "REDIS_URL": carafe_redis_url,
        "JOB_MODULES": "tests.tutorial.long_jobs",
        "HANDLER_MODULES": "tests.tutorial.long_jobs",
        "PROBE_PORT": "0",
        "LOG_FORMAT": "json",
    }
    process = WorkerProcess(settings, tmp_path)
    try:
        await process.ready()
        yield
        await process.stop()
    finally:
        process.kill()


@pytest.mark.usefixtures("worker")
async def test_a_running_job_reports_its_progress_and_can_be_cancelled(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Render(pages=2))

    async def reported() -> JobRecord | None:
        record = await carafe_client.get(accepted.id)
        return record if record.progress_note else None

    record = await eventually(reported, within=30)
    assert record is not None
    assert record.state is State.RUNNING
    assert (record.progress, record.progress_note) == (0.5, "page 1 of 2")

    # A running job is asked to stop. Its handler is cancelled where it waits, and the job ends `cancelled`.
    await carafe_client.cancel(accepted.id, reason="nobody reads it any more")
    ended = await carafe_client.wait(accepted.id, timeout=30)
    assert ended.state is State.CANCELLED
