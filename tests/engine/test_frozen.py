"""A worker that is frozen for longer than the steward's patience: its job runs elsewhere, and the worker's later writes
change nothing."""

import signal
from typing import Any

import pytest

from carafe import Client, State
from carafe.engine.completions import STALE
from carafe.steward import rescuer
from carafe.steward.steward import Steward
from tests.engine.conftest import Gates, StartWorker, Words
from tests.engine.jobs import LATE, AsyncDo, Effect, NoOp
from tests.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rounds without a beat are enough: a worker beats every second."""
    monkeypatch.setattr(rescuer, "ROUNDS", 3)


@pytest.mark.parametrize("woken", ["while the new owner runs", "after the new owner has ended it"])
async def test_a_frozen_worker_loses_its_job_and_writes_nothing_over_the_new_owner(
    client: Client,
    steward: Steward,
    start_worker: StartWorker,
    gate: Gates,
    effects: Words,
    woken: str,
) -> None:
    frozen = await start_worker(WORKER_CONCURRENCY="1")

    async def begun(times: int) -> bool:
        return (await effects(job.id)).count("begun") == times

    async with gate() as number:
        job = await client.enqueue(AsyncDo(what="hold", gate=number))
        await eventually(lambda: begun(1))
        rescued = steward.rescuer.rescued
        frozen.signal(signal.SIGSTOP)
        await eventually(lambda: steward.rescuer.rescued == rescued + 1, 60)
        owner = await start_worker()
        await eventually(lambda: begun(2), 60)
        if woken == "while the new owner runs":
            frozen.signal(signal.SIGCONT)
            await eventually(lambda: frozen.events(STALE.words, job_id=str(job.id)), 60)
            assert frozen.events("a running job is no longer ours, stopping it", job_id=str(job.id))
            assert (await client.get(job.id)).state is State.RUNNING
    before = await client.wait(job.id, timeout=60)
    frozen.signal(signal.SIGCONT)
    await eventually(lambda: frozen.events("this worker was declared lost, but it lives and takes jobs again"), 60)
    await owner.stop()

    # The woken one works again, and what the new owner wrote stands.
    after = await client.enqueue(NoOp())
    assert (await client.wait(after.id, timeout=60)).state is State.SUCCEEDED
    record = await client.get(job.id)
    assert record == before
    assert (record.state, record.result, [attempt.cause for attempt in record.attempts]) == (
        State.SUCCEEDED,
        "held",
        ["worker lost"],
    )
    if woken == "while the new owner runs":
        assert await effects(job.id) == ["begun", "begun", "finished"]
    await frozen.stop()


async def test_a_claim_that_was_under_way_when_its_worker_was_declared_lost_begins_nothing(
    client: Client, database: Any, steward: Steward, start_worker: StartWorker, effects: Words
) -> None:
    async with database.acquire() as gate:
        await gate.execute("select pg_advisory_lock($1)", LATE)
        worker = await start_worker(HANDLER_MODULES="tests.engine.handlers,tests.engine.slow_claims")
        job = await client.enqueue(Effect(word="run"))

        async def running() -> bool:
            return (await client.get(job.id)).state is State.RUNNING

        await eventually(running)
        # What a rescue does to a job that has not begun; and the job is paused, so that nobody else takes it meanwhile.
        await client.pause(reason="test")
        async with database.acquire() as connection, connection.transaction():
            await connection.execute("update carafe.workers set state = 'lost' where pid = $1", worker.pid)
            await connection.execute("update carafe.jobs set state = 'queued', worker = null where id = $1", job.id)
        await eventually(lambda: worker.events("this worker was declared lost, but it lives and takes jobs again"))
        beats = await database.fetchval("select beat_at from carafe.workers where pid = $1", worker.pid)

        async def trusted_again() -> bool:
            beat = await database.fetchval("select beat_at from carafe.workers where pid = $1", worker.pid)
            return bool((beat - beats).total_seconds() > 1)

        await eventually(trusted_again)
        await gate.execute("select pg_advisory_unlock($1)", LATE)
    await eventually(lambda: 'carafe_stale_writes_total{queue="default"} 1.0' in worker.probe("/metrics")[1])
    assert await effects(job.id) == []
    await client.resume()
    assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
    assert await effects(job.id) == ["run"]
    assert (await client.get(job.id)).attempts == ()
