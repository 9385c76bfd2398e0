"""Several workers on one queue: every job runs once, none is lost."""

from typing import Any

import pytest

from carafe import Client
from tests.engine.conftest import Gates, StartWorker
from tests.engine.jobs import Effect, NoOp
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("steward")]

JOBS = 2_000


async def test_two_workers_run_2000_jobs_once_each(
    client: Client, database: Any, gate: Gates, start_worker: StartWorker
) -> None:
    workers = [await start_worker(), await start_worker()]
    async with gate() as number:
        # Ten jobs that hold all slots show that both take part.
        await client.enqueue_many([NoOp(gate=number) for _ in range(10)])

        async def both() -> bool:
            rows = await database.fetch("select count(*) from carafe.jobs where state = 'running' group by worker")
            return sorted(row["count"] for row in rows) == [5, 5]

        await eventually(both)
        await client.enqueue_many([Effect(word="run") for _ in range(JOBS)])

    async def none_live() -> bool:
        return not await database.fetchval("select exists (select from carafe.jobs)")

    await eventually(none_live, within=60)
    rows = await database.fetch("select state, attempt, count(*) from carafe.jobs_ended group by 1, 2")
    assert [tuple(row) for row in rows] == [("succeeded", 1, JOBS + 10)]
    ran = await database.fetchrow("select count(*) as all, count(distinct job_id) as jobs from effects")
    assert (ran["all"], ran["jobs"]) == (JOBS, JOBS)
    for worker in workers:
        await worker.stop()
