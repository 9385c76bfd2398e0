"""A worker's claims and the rows in Postgres are reconciled in both directions, and a suspect runs in a process of its own
(docs/design rules 7 and 9).

The tests imitate a lost reply, a rescue and a death by writing to Postgres what these leave there.
"""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from carafe import Client, Job, State
from carafe.engine.claim import Claim
from carafe.engine.completions import STALE
from carafe.engine.reconciliation import Findings, Reconciliation
from carafe.engine.slot import Slot
from carafe.store.statements import CLAIM
from tests.engine.conftest import Gates, States, Words
from tests.engine.jobs import AsyncDo, Commit, ThreadDo
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process


async def _without_a_hint(client: Client, database: Any, job: Job) -> UUID:
    """A queued job that no hint names."""
    accepted = await client.enqueue(job, delay=3600)
    await database.execute(
        "update carafe.jobs set state = 'queued', due_at = now(), hinted_at = now() + interval '1 hour' where id = $1",
        accepted.id,
    )
    return accepted.id


async def test_a_claim_whose_reply_was_lost_comes_back(client: Client, database: Any, worker: WorkerProcess) -> None:
    worker_id = await database.fetchval("select id from carafe.workers where pid = $1", worker.pid)
    job_id = await _without_a_hint(client, database, AsyncDo(what="none"))
    claimed = await CLAIM.fetch(database, ids=[job_id], worker=worker_id, kinds=["engine.async"])
    assert [row["id"] for row in claimed] == [job_id]
    record = await client.wait(job_id, timeout=20)
    assert (record.state, record.attempt, record.attempts) == (State.SUCCEEDED, 1, ())


async def test_a_job_that_is_no_longer_ours_is_stopped_and_writes_nothing(
    client: Client, database: Any, gate: Gates, effects: Words, worker: WorkerProcess
) -> None:
    async with gate() as number:
        accepted = await client.enqueue(AsyncDo(what="hold", gate=number))

        async def begun() -> bool:
            return await effects(accepted.id) == ["begun"]

        await eventually(begun)
        # Somebody else has claimed it, as after a rescue.
        await database.execute("update carafe.jobs set fence = fence + 1, worker = $2 where id = $1", accepted.id, uuid4())
        await eventually(lambda: worker.events(STALE.words, job_id=str(accepted.id)))
    record = await client.get(accepted.id)
    assert (record.state, record.attempt, record.releases) == (State.RUNNING, 0, 0)
    assert await effects(accepted.id) == ["begun"]


def test_a_job_that_is_no_longer_ours_is_told_once_however_long_its_handler_takes_to_stop() -> None:
    claim = Claim({"id": uuid4(), "kind": "k", "fence": 1, "attempt": 0, "suspect": False, "max_attempts": 4}, b"", 0.0)
    slot = Slot(0)
    slot.claim = claim
    runner = SimpleNamespace(
        forget=lambda claim: False, slots=[slot], running=lambda: [slot], trust_until=lambda until: None
    )
    other: Any = SimpleNamespace(find=lambda job_id, fence: claim, maybe_wake=lambda: None)
    made: Any = runner
    nothing: Any = lambda: None  # noqa: E731
    at_once: Any = lambda function: function()  # noqa: E731
    reconciliation = Reconciliation(other, other, made, other, other, other, at_once, nothing, nothing)
    with capture_logs() as lines:
        for _ in range(3):
            reconciliation.found(Findings(0.0, [], [(claim.id, claim.fence)]))
    assert [line["event"] for line in lines] == ["a running job is no longer ours, stopping it"]


async def test_a_suspect_runs_in_a_process_of_its_own_whatever_its_handler(
    client: Client, database: Any, worker: WorkerProcess, effects: Words
) -> None:
    for job in (ThreadDo(what="pid"), AsyncDo(what="pid")):
        job_id = await _suspect(client, database, job)
        record = await client.wait(job_id, timeout=30)
        assert record.state is State.SUCCEEDED, record
        assert record.result != worker.pid
    committed = await _suspect(client, database, Commit(word="once"))
    record = await client.wait(committed, timeout=30)
    assert (record.state, record.attempt) == (State.SUCCEEDED, 1)
    assert await effects(committed) == ["once"]


async def test_a_suspect_that_crashes_its_process_is_dead_by_its_own_crashes_alone(
    client: Client, database: Any, worker: WorkerProcess, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        neighbour = await client.enqueue(AsyncDo(what="hold", gate=number))
        await becomes(neighbour.id, State.RUNNING)
        job_id = await _suspect(client, database, AsyncDo(what="segfault"))
        record = await client.wait(job_id, timeout=40)
        assert (record.state, record.attempt) == (State.DEAD, 4)
        assert [attempt.cause for attempt in record.attempts] == ["crash"] * 4
        assert "SIGSEGV" in record.attempts[0].error
    assert (await client.wait(neighbour.id, timeout=20)).attempt == 1
    assert worker.probe("/livez")[0] == 200


async def _suspect(client: Client, database: Any, job: Job) -> UUID:
    """A job whose last worker died under it: it is due, and known as a suspect."""
    accepted = await client.enqueue(job, delay=3600)
    await database.execute("update carafe.jobs set suspect = true where id = $1", accepted.id)
    await client.run_now(accepted.id)
    return accepted.id
