"""What is published for the autoscaler in addition to the queue's length: running jobs, and workers that must not be scaled
in."""

from typing import Any

import pytest
from redis import Redis

from carafe import Client
from carafe.queue.redis_rights import BUSY, COUNTS_FOR, RUNNING
from tests.engine.conftest import Gates, StartWorker
from tests.engine.jobs import AsyncDo, NoOp
from tests.waiting import eventually

pytestmark = pytest.mark.process


def members(connection: Redis, key: str) -> set[str]:
    found: Any = connection.zrange(key, 0, -1)
    return {member.decode() for member in found}


async def told(connection: Redis, key: str, expected: set[str]) -> None:
    await eventually(lambda: members(connection, key) == expected, 20)


async def test_what_runs_and_who_is_busy_is_told_and_taken_back(
    client: Client, database: Any, redis_connection: Redis, gate: Gates, start_worker: StartWorker
) -> None:
    worker = await start_worker()
    name = str(await database.fetchval("select id from carafe.workers where pid = $1", worker.pid))
    short = await client.enqueue(NoOp())
    async with gate() as closed:
        long = [(await client.enqueue(AsyncDo(what="hold", gate=closed))).id for _ in range(2)]
        await told(redis_connection, RUNNING, {str(job_id) for job_id in long})
        await told(redis_connection, BUSY, {name})
        for key in (RUNNING, BUSY):
            assert 0 < int(redis_connection.ttl(key)) <= COUNTS_FOR
        # A wipe heals by itself, and what a worker that died has left is dropped by the others.
        redis_connection.flushall()
        redis_connection.zadd(RUNNING, {"of a worker that died": 1, "of no worker at all": 9e15})
        await told(redis_connection, BUSY, {name})
        await told(redis_connection, RUNNING, {str(job_id) for job_id in long})

        worker.signal()
        await told(redis_connection, BUSY, set())
        await told(redis_connection, RUNNING, {str(job_id) for job_id in long})
    assert await worker.ended() == 0
    assert redis_connection.exists(RUNNING, BUSY) == 0
    for job_id in [short.id, *long]:
        assert (await client.get(job_id)).state == "succeeded"


async def test_an_idle_worker_says_nothing(redis_connection: Redis, start_worker: StartWorker) -> None:
    await start_worker()
    assert redis_connection.exists(RUNNING, BUSY) == 0
