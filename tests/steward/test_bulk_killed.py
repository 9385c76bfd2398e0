"""A bulk action whose steward is killed midway: the next one finishes it, each job done once, with true totals."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from carafe import Client, State
from carafe.store.audit import Actor
from carafe.store.filters import JobFilter
from tests.cli.conftest import application
from tests.cli.running import running
from tests.jobs.by_hand import ByHand
from tests.jobs.conftest import worker
from tests.steward.test_bulk import died, greets, states, totals
from tests.waiting import eventually

__all__ = ["worker"]

JOBS = 3_000


@pytest.mark.process
async def test_the_next_steward_finishes_it(
    carafe_client: Client, carafe_database_url: str, carafe_redis_url: str, worker: ByHand, tmp_path: Path
) -> None:
    settings = application(carafe_database_url, carafe_redis_url) | {"JOB_MODULES": "tests.jobs.kinds"}
    ids = await died(carafe_client, worker, greets(JOBS))
    with ExitStack() as stack:
        first = stack.enter_context(running("steward", folder=tmp_path, **settings))
        await asyncio.to_thread(first.says, "steward leads")
        # Slow enough to be caught in the middle of it.
        started = await carafe_client.start_bulk(
            "retry", JobFilter(states=frozenset({State.DEAD})), rate=600, by=Actor("ana", "api")
        )

        async def begun() -> bool:
            return (await carafe_client.bulk(started.id)).done > 0

        await eventually(begun, 60)
        first.send(signal.SIGKILL)
        await asyncio.to_thread(first.wait)
        at_its_death = await carafe_client.bulk(started.id)
        assert at_its_death.state == "running"
        assert 0 < at_its_death.done < JOBS
        assert await states(carafe_client, ids) == {"queued": at_its_death.done, "dead": JOBS - at_its_death.done}

        stack.enter_context(running("steward", folder=tmp_path, **settings))

        async def done() -> bool:
            return (await carafe_client.bulk(started.id)).state == "done"

        await eventually(done, 120)

    assert totals(await carafe_client.bulk(started.id)) == ("done", JOBS, JOBS, 0, 0)
    assert await states(carafe_client, ids) == {"queued": JOBS}
    async with carafe_client.database.connection() as connection:
        rows = await connection.fetch("select target, count(*) as n from carafe.audit where action = 'retry' group by 1")
        granted = await connection.fetch("select distinct attempt, max_attempts, fence from carafe.jobs")
    assert len(rows) == JOBS
    assert {row["n"] for row in rows} == {1}
    assert [tuple(row) for row in granted] == [(1, 5, 1)]
