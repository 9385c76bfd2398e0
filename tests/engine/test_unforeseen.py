"""Unexpected errors while ends are written: no end is lost, and none delays the others."""

import asyncio
from typing import Any

import asyncpg
import psutil
import pytest

from carafe import Client, State
from carafe.engine.claim import Claim
from carafe.engine.completions import Succeeded
from carafe.engine.engine import Engine
from carafe.jobs.identifiers import uuid7
from carafe.settings.settings import Settings
from tests.engine.conftest import StartWorker, States
from tests.engine.jobs import Effect, OnRedis, ProcessDo, ThreadDo
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
    await worker.stop()


async def test_a_worker_without_threads_leaves_jobs_to_others_and_loses_no_slot(
    client: Client,
    start_worker: StartWorker,
    redis_connection: Any,
    becomes: States,
    database: "asyncpg.Pool[asyncpg.Record]",
    steward: Any,
) -> None:
    modules = "tests.engine.handlers,tests.engine.short_of_threads"
    worker = await start_worker(HANDLER_MODULES=modules, WORKER_CONCURRENCY="2")
    jobs = [await client.enqueue(kind(what="none")) for kind in (ThreadDo, ProcessDo, ThreadDo, ProcessDo)]
    said = "a job could not be begun; it is left to other workers"
    await eventually(lambda: len({line["job_id"] for line in worker.events(said)}) >= 2, within=20)
    assert worker.events(said)[0]["error"] == "RuntimeError: can't start new thread"
    # Slots are free, and others' work goes on.
    other = await client.enqueue(Effect(word="once"))
    await becomes(other.id, State.SUCCEEDED, within=20)
    rows = await database.fetch("select attempt, releases from carafe.jobs where id = any($1)", [job.id for job in jobs])
    assert {tuple(row) for row in rows} == {(0, 0)}
    # Threads for handlers, none to start a spare child in: the job does without.
    redis_connection.set("threads: carafe handler", 1, ex=60)
    for job in jobs:
        assert (await becomes(job.id, State.SUCCEEDED, within=40)).attempt == 1
    await eventually(lambda: not psutil.Process(worker.pid).children(), within=20)
    await worker.stop()


async def test_ends_whose_writing_is_cancelled_are_kept(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url, _env_file=None)
    engine = Engine(settings, name="tests")
    writer = engine.writer
    begun = asyncio.Event()

    async def never(batch: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    engine.ledger.write = never  # type: ignore[method-assign, assignment]
    row = {"id": uuid7(), "kind": "engine.effect", "fence": 1, "attempt": 0, "suspect": False}
    end = Succeeded(Claim(row, b"", 0.0), 0.1, None)
    task = asyncio.create_task(writer._write([end]))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert writer._late == [end]
    assert writer._fallen_behind.is_set()
