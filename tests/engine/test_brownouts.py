"""While Postgres or Redis answers slowly or not at all, a worker continues to live, loses nothing, and spends no attempt.

The worker and the steward use connections that are stalled and slowed here; the client connects directly. Seconds are
printed (``pytest -s``), never asserted.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.queue.queue import Queue
from carafe.steward.steward import Steward
from carafe.store.database import Database
from tests.engine.conftest import States, Words
from tests.engine.jobs import Effect, NoOp, OnRedis
from tests.engine.worker_process import WorkerProcess
from tests.links import Way, way_to
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]


@pytest.fixture(scope="module")
def postgres(database_url: str) -> Iterator[Way]:
    with way_to(database_url) as way:
        yield way


@pytest.fixture(scope="module")
def redis(redis_url: str) -> Iterator[Way]:
    with way_to(redis_url) as way:
        yield way


@pytest.fixture(autouse=True)
def healed(postgres: Way, redis: Way) -> Iterator[None]:
    """What one test leaves broken is not the next one's, connections that were stalled included."""
    yield
    postgres.heal_without_a_memory()
    redis.heal_without_a_memory()


@pytest.fixture(scope="module")
def worker_settings(postgres: Way, redis: Way) -> dict[str, str]:
    return {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}


@pytest.fixture(scope="module")
async def steward(client: Client, postgres: Way, redis_url: str) -> AsyncIterator[Steward]:
    """An upkeep that a brown-out of Postgres hits as well."""
    database, queue = Database(postgres.url, pool_size=2, name="tests"), Queue(redis_url)
    steward = Steward(database, queue, name="tests")
    steward.start()
    yield steward
    await steward.stop()
    await queue.close()
    await database.close()


def tell(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.2f} s")  # noqa: T201  what was measured


async def all_succeed(client: Client, ids: list[UUID], within: float = 60.0) -> None:
    """Wait until they have, each by its first attempt and without having been released."""
    for job_id in ids:
        record = await client.wait(job_id, timeout=within)
        spent = (record.state, record.attempt, record.attempts, record.releases)
        assert spent == (State.SUCCEEDED, 1, (), 0), record


async def alive_until(worker: WorkerProcess, check: Callable[[], bool], within: float = 180.0) -> None:
    """Wait for what `check` says; the worker is alive to Kubernetes all the while. A failure has the worker's log."""

    def looked() -> bool:
        assert_alive(worker)
        return check()

    try:
        await eventually(looked, within)
    except AssertionError as error:
        error.add_note("\n".join(worker.log.splitlines()[-80:]))
        raise


def assert_alive(worker: WorkerProcess) -> None:
    status, words = worker.probe("/livez")
    if status != 200:
        raise RuntimeError(f"/livez says {status}: {words}")  # no AssertionError, which would be taken for "not yet"


@pytest.mark.parametrize("memory", ["late", "lost"])
async def test_a_silent_postgres_costs_no_attempt_whatever_the_worker_was_doing(
    client: Client,
    steward: Steward,
    worker: WorkerProcess,
    postgres: Way,
    redis_connection: Any,
    becomes: States,
    memory: str,
) -> None:
    running = await client.enqueue(OnRedis(gate=f"running {memory}"))
    ending = await client.enqueue(OnRedis(gate=f"ending {memory}"))
    for job in (running, ending):
        await becomes(job.id, State.RUNNING)
    unwritten = len(worker.events("ends not written yet, trying again"))
    unclaimed = len(worker.events_like("claim failed"))
    rescued = steward.rescuer.rescued

    postgres.swallow()
    redis_connection.rpush(f"ending {memory}", "go")
    claimed = await client.enqueue_many([NoOp() for _ in range(20)])
    # Longer than the steward's patience with a silent worker: what silences them all rescues nobody.
    await alive_until(worker, lambda: len(worker.events("ends not written yet, trying again")) >= unwritten + 20)
    assert len(worker.events_like("claim failed")) > unclaimed
    for job in (running, ending):
        assert (await client.get(job.id)).state is State.RUNNING
    healed = time.monotonic()
    if memory == "late":
        postgres.heal()
    else:
        postgres.heal_without_a_memory()

    await all_succeed(client, [ending.id])
    tell(f"until the kept end was written ({memory})", healed)
    await all_succeed(client, [job.id for job in claimed])
    tell(f"until what was to be claimed had run ({memory})", healed)
    redis_connection.rpush(f"running {memory}", "go")
    await all_succeed(client, [running.id])
    assert steward.rescuer.rescued == rescued
    assert not worker.events("this worker was declared lost, but it lives and takes jobs again")
    assert_alive(worker)


async def test_a_postgres_that_is_too_slow_makes_jobs_wait_and_spills_none(
    client: Client, worker: WorkerProcess, postgres: Way, steward: Steward
) -> None:
    rescued = steward.rescuer.rescued
    failed = len(worker.events_like("claim failed"))
    postgres.slow(round_trip=2.0)
    jobs = [(await client.enqueue(NoOp())).id for _ in range(10)]

    # Connecting takes longer than it may: the worker takes Postgres for away, and waits for it.
    await alive_until(worker, lambda: len(worker.events_like("claim failed")) > failed)
    healed = time.monotonic()
    postgres.heal()
    await all_succeed(client, jobs)
    tell("until what had waited for a slow Postgres had run", healed)
    assert steward.rescuer.rescued == rescued


@pytest.mark.parametrize("memory", ["late", "lost"])
async def test_a_silent_redis_stops_nothing_for_longer_than_it_lasts(
    client: Client, worker: WorkerProcess, redis: Way, effects: Words, memory: str
) -> None:
    def notices() -> int:
        return len(worker.events("Redis is away, trying again every second"))

    before = notices()
    redis.swallow()
    jobs = [(await client.enqueue(Effect(word="once"))).id for _ in range(50)]
    # It notices a connection that does not answer although nobody ended it.
    await alive_until(worker, lambda: notices() > before)
    healed = time.monotonic()
    if memory == "late":
        redis.heal()
    else:
        redis.heal_without_a_memory()

    after = (await client.enqueue(Effect(word="once"))).id
    await all_succeed(client, [after])
    tell(f"until the worker consumed again ({memory})", healed)
    await all_succeed(client, jobs)
    tell(f"until all had run ({memory})", healed)
    for job_id in (*jobs, after):
        assert await effects(job_id) == ["once"]
    assert_alive(worker)


async def test_a_slow_redis_slows_the_jobs_and_spills_none(
    client: Client, worker: WorkerProcess, redis: Way, effects: Words
) -> None:
    redis.slow(round_trip=1.0)
    began = time.monotonic()
    jobs = [(await client.enqueue(Effect(word="once"))).id for _ in range(50)]
    await all_succeed(client, jobs)
    tell("50 jobs with a Redis of 1 s a round trip", began)
    assert_alive(worker)
    redis.heal()
    for job_id in jobs:
        assert await effects(job_id) == ["once"]
