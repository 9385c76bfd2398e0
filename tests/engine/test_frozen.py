"""A worker that is frozen for longer than the steward's patience: its job runs elsewhere, and it writes nothing later."""

import signal

import pytest

from carafe.jobs import Client, State
from carafe.steward import rescuer
from carafe.steward.steward import Steward
from tests.engine.conftest import Gates, StartWorker, Words
from tests.engine.jobs import AsyncDo, NoOp
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
            await eventually(lambda: frozen.events("job released", job_id=str(job.id)), 60)
            assert frozen.events("a running job is no longer ours, stopping it", job_id=str(job.id))
            assert (await client.get(job.id)).state is State.RUNNING
    before = await client.wait(job.id, timeout=60)
    frozen.signal(signal.SIGCONT)
    await eventually(lambda: frozen.events("this worker was declared lost and comes back"), 60)
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
