"""A worker hosts a steward (setting STEWARD), so retries and scheduled jobs are queued even without a web process."""

import pytest

from carafe import Client, State
from tests.engine.conftest import StartWorker
from tests.engine.jobs import AsyncDo

pytestmark = pytest.mark.process


async def test_a_worker_alone_runs_retries_and_scheduled_jobs(client: Client, start_worker: StartWorker) -> None:
    worker = await start_worker(STEWARD="true", JOB_RETRY_BASE="0.1")
    failing = await client.enqueue(AsyncDo(what="error"))
    later = await client.enqueue(AsyncDo(what="none"), delay=1)
    record = await client.wait(failing.id, timeout=30)
    assert (record.state, record.attempt) == (State.DEAD, 4)
    assert (await client.wait(later.id, timeout=30)).state is State.SUCCEEDED
    await worker.stop()
    assert "Traceback" not in worker.log
