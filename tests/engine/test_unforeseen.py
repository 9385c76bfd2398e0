"""An error that nobody foresaw while ends are written: no end is thrown away, and none holds up the others."""

from typing import Any

import asyncpg
import pytest

from carafe.jobs import Client, State
from tests.engine.conftest import StartWorker, States
from tests.engine.jobs import Effect, OnRedis
from tests.waiting import eventually

pytestmark = pytest.mark.process


async def test_an_end_that_cannot_be_written_for_no_foreseen_reason_is_kept_and_holds_up_nobody(
    client: Client,
    start_worker: StartWorker,
    redis_connection: Any,
    becomes: States,
    database: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    worker = await start_worker(HANDLER_MODULES="tests.engine.handlers,tests.engine.stumbling")
    job = await client.enqueue(OnRedis(gate="stumble"))
    await becomes(job.id, State.RUNNING)
    others = [(await client.enqueue(Effect(word="once"))).id for _ in range(3)]
    redis_connection.rpush("stumble", "go")
    # Tried again and again, after growing pauses, and each time told.
    await eventually(lambda: len(worker.events("ends not written, keeping them")) >= 2, within=30)
    others += [(await client.enqueue(Effect(word="once"))).id for _ in range(30)]
    for other in others:
        await becomes(other, State.SUCCEEDED, within=20)

    # Its claim is still the first: it was handed back to nobody, and has not run again.
    assert await database.fetchrow("select state, fence, attempt from carafe.jobs where id = $1", job.id) == (
        "running",
        1,
        0,
    )
    redis_connection.set("mended", 1, ex=60)
    record = await becomes(job.id, State.SUCCEEDED, within=40)
    assert (record.result, record.attempt) == ("released", 1)
