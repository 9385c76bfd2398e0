"""Nothing hides from the autoscaler: the hint of every job that no slot runs is in the list (docs/design rule 5). There is
no steward here, since it would push hints."""

from typing import Any

import pytest

from carafe import Client, Job
from tests.engine.conftest import Gates, StartWorker
from tests.engine.jobs import NoOp, OnRedis
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

WAITING = 100


@pytest.fixture
async def lone_worker(start_worker: StartWorker) -> Any:
    worker = await start_worker()
    yield worker
    await worker.stop()


@pytest.mark.parametrize("kind", ["the same kind", "another kind"])
@pytest.mark.parametrize("before", [0, 10_000], ids=["fresh", "after 10,000 no-ops"])
async def test_with_every_slot_busy_at_least_95_of_100_waiting_jobs_are_in_the_list(
    client: Client,
    database: Any,
    redis_connection: Any,
    gate: Gates,
    lone_worker: WorkerProcess,
    kind: str,
    before: int,
) -> None:
    if before:
        await client.enqueue_many([NoOp() for _ in range(before)])
        await eventually(lambda: _none_live(database), within=60)
    async with gate() as number:

        def held() -> Job:
            return NoOp(gate=number) if kind == "the same kind" else OnRedis(gate="backlog")

        await client.enqueue_many([held() for _ in range(5 + WAITING)])

        async def shown() -> bool:
            running = await database.fetchval("select count(*) from carafe.jobs where state = 'running'")
            return bool(running == 5 and redis_connection.llen("default") == WAITING)

        async def over_a_beat() -> list[int]:
            """The list's lengths until the worker's next beat."""
            beat = await database.fetchval("select max(beat_at) from carafe.workers")
            lengths = []

            async def beaten() -> bool:
                lengths.append(redis_connection.llen("default"))
                return bool(await database.fetchval("select max(beat_at) > $1 from carafe.workers", beat))

            await eventually(beaten)
            return lengths

        # All of it in the end, and it stays so: never less than 95 over three of the worker's beats. Before that, while its
        # slots have run for less than 100 ms, it may take some and give them back.
        for _ in range(2):
            await eventually(shown)
            await over_a_beat()
        await eventually(shown)
        lengths = [length for _ in range(3) for length in await over_a_beat()]
        assert min(lengths) >= 95
        assert max(lengths) == WAITING
        assert await database.fetchval("select max(attempt) from carafe.jobs") == 0
    for _ in range(5 + WAITING if kind == "another kind" else 0):
        redis_connection.rpush("backlog", "go")
    await eventually(lambda: _none_live(database), within=30)


async def _none_live(database: Any) -> bool:
    return not await database.fetchval("select exists (select from carafe.jobs)")
