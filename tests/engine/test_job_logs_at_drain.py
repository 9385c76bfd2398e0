"""The last log lines are stored before a worker ends, or dropped: no end of a job and no drain waits for them. Each test
ends
a worker of its own."""

from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.store.job_logs import LogLine, read
from tests.engine.conftest import Gates, StartWorker
from tests.engine.logging_jobs import SAY, AsyncSay
from tests.waiting import eventually

# The steward pushes the hint again that a busy machine has not taken at once.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("steward")]


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.jobs,tests.engine.logging_jobs",
        "HANDLER_MODULES": "tests.engine.handlers,tests.engine.logging_handlers",
    }


async def lines(client: Client, job_id: UUID) -> list[LogLine]:
    async with client.database.connection() as connection:
        return await read(connection, job_id)


@pytest.mark.parametrize("mode", SAY)
async def test_the_last_lines_are_stored_before_the_worker_ends(
    client: Client, gate: Gates, start_worker: StartWorker, mode: str
) -> None:
    worker = await start_worker()
    async with gate() as number:
        job = await client.enqueue(SAY[mode](text="before ", gate=number))
        await eventually(lambda: lines(client, job.id))
        worker.signal()
        await worker.drains()
    assert await worker.ended() == 0
    assert (await client.get(job.id)).state is State.SUCCEEDED
    assert [line.text for line in await lines(client, job.id)] == ["before 0", "through the gate"]


async def test_lines_that_cannot_be_stored_hold_up_no_end_and_no_drain(
    client: Client, database: Any, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("lock table carafe.job_logs in access exclusive mode")
        for job in [await client.enqueue(AsyncSay(text="locked ")) for _ in range(20)]:
            assert (await client.wait(job.id, timeout=60)).state is State.SUCCEEDED
        worker.signal()
        assert await worker.ended() == 0
    assert worker.events("job logs dropped at the end", jobs=20)
