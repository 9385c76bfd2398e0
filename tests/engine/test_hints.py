"""A hint is only a hint: a malformed, repeated or stale hint is dropped and counted, and delays no job."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from celery import Celery

from carafe import Client, State
from carafe.queue.hints import Hint, encode
from tests.engine.conftest import Counts, Gates, StartWorker, States, Words
from tests.engine.jobs import AsyncDo, Effect, Elsewhere, NoOp, Versioned
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {"JOB_VERSION": "1"}


def hint(**headers: Any) -> bytes:
    """A hint with other headers; None leaves one out."""
    message = orjson.loads(encode(Hint(uuid4(), "engine.no_op", 0)))
    message["headers"] = {name: value for name, value in (message["headers"] | headers).items() if value is not None}
    return orjson.dumps(message)


MALFORMED = {
    "no JSON": b'{"headers": ',
    "not UTF-8": b'{"headers": {"task": "\xff\xfe"}}',
    "nothing": b"",
    "a number": b"5",
    "a list": b"[]",
    "null": b"null",
    "no headers": b"{}",
    "headers that are a list": b'{"headers": []}',
    "no id": hint(id=None),
    "an id that is a number": hint(id=5),
    "an id that is not an UUID": hint(id="five"),
    "no kind": hint(shadow=None),
    "a kind that is a list": hint(shadow=["engine.no_op"]),
}


async def test_malformed_hints_are_dropped_and_counted_and_good_ones_between_them_run(
    client: Client, redis_connection: Any, counts: Counts, worker: WorkerProcess
) -> None:
    before = counts().get("hints malformed", 0)
    jobs = []
    for raw in MALFORMED.values():
        redis_connection.lpush("default", raw)
        jobs.append(await client.enqueue(NoOp()))
    for job in jobs:
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: counts().get("hints malformed", 0) == before + len(MALFORMED))
    assert worker.probe("/livez")[0] == 200
    assert worker.events("dropped messages that are not hints")


async def test_tasks_of_other_celery_applications_are_refused_in_words(
    client: Client, redis_url: str, counts: Counts, worker: WorkerProcess
) -> None:
    before = counts().get("messages of other tasks", 0)
    with Celery(broker=redis_url, set_as_current=False) as other:
        other.send_task("some.other.task", queue="default", args=[1], ignore_result=True)
    job = await client.enqueue(NoOp())
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: "some.other.task" in worker.log)
    assert counts().get("messages of other tasks", 0) == before + 1


async def test_double_and_stale_hints_are_dropped_and_counted(
    client: Client, redis_connection: Any, counts: Counts, effects: Words
) -> None:
    done = await client.enqueue(Effect(word="first"))
    await client.wait(done.id, timeout=20)
    before = counts().get("hints dropped", 0)
    stale = encode(Hint(done.id, done.kind, 0))
    unknown = encode(Hint(uuid4(), "engine.no_op", 0))
    redis_connection.lpush("default", stale, stale, unknown, stale)
    job = await client.enqueue(Effect(word="second"))
    redis_connection.lpush("default", encode(Hint(job.id, job.kind, 0)))
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: counts().get("hints dropped", 0) == before + 5)
    assert await effects(done.id) == ["first"]
    assert await effects(job.id) == ["second"]


async def test_hints_of_a_running_job_do_not_run_it_again(
    client: Client, redis_connection: Any, counts: Counts, effects: Words, gate: Gates
) -> None:
    before = counts().get("hints dropped", 0)
    async with gate() as number:
        job = await client.enqueue(AsyncDo(what="hold", gate=number))

        async def begun() -> bool:
            return await effects(job.id) == ["begun"]

        await eventually(begun)
        redis_connection.lpush("default", *[encode(Hint(job.id, job.kind, 0))] * 3)
        await eventually(lambda: counts().get("hints dropped", 0) == before + 3)
    assert (await client.wait(job.id, timeout=20)).attempt == 1
    assert await effects(job.id) == ["begun", "finished"]


async def test_a_kind_that_no_worker_knows_waits_says_so_and_runs_when_one_comes(
    client: Client,
    database: Any,
    counts: Counts,
    start_worker: StartWorker,
    effects: Words,
    becomes: States,
    gate: Gates,
) -> None:
    job = await client.enqueue(Elsewhere())

    async def deferred() -> bool:
        return bool(
            await database.fetchval("select deferrals > 0 and hinted_at > now() from carafe.jobs where id = $1", job.id)
        )

    await eventually(deferred)
    record = await client.get(job.id)
    assert (record.state, record.attempt) == (State.QUEUED, 0)
    assert record.note == (
        "The only live worker has no handler for the kind 'engine.elsewhere': HANDLER_MODULES must name the module with"
        " its handler."
    )
    after = await client.enqueue(NoOp())
    assert (await client.wait(after.id, timeout=20)).state is State.SUCCEEDED
    assert counts()["hints of foreign kinds"] >= 1
    async with gate() as number:
        # With its slots taken, the first worker leaves the hint to the second.
        for busy in await client.enqueue_many([NoOp(gate=number) for _ in range(5)]):
            await becomes(busy.id, State.RUNNING)
        newer = await start_worker(HANDLER_MODULES="tests.engine.handlers,tests.engine.other_handlers")
        record = await client.wait(job.id, timeout=30)
    assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, "here", 1)
    assert await effects(job.id) == ["elsewhere"]
    await newer.stop()


async def test_arguments_of_a_newer_release_wait_for_its_workers(
    client: Client, database: Any, start_worker: StartWorker, becomes: States, gate: Gates
) -> None:
    job = await client.enqueue(Versioned())

    async def deferred() -> bool:
        return bool(await database.fetchval("select deferrals > 0 from carafe.jobs where id = $1", job.id))

    await eventually(deferred)
    record = await client.get(job.id)
    assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 0)
    assert record.note == (
        "The only live worker does not know version 2 of the arguments of 'engine.versioned', only up to 1:"
        " it waits for workers of the release that enqueued it."
    )
    async with gate() as number:
        # With its slots taken, the older worker leaves the hint to the newer one.
        for busy in await client.enqueue_many([NoOp(gate=number) for _ in range(5)]):
            await becomes(busy.id, State.RUNNING)
        newer = await start_worker(JOB_VERSION="2")
        record = await client.wait(job.id, timeout=30)
    assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, 2, 1)
    await newer.stop()
