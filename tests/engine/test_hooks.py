"""An application's hook for a change of state runs in the transaction that makes the change."""

from typing import Any
from uuid import UUID

import pytest

from carafe import Client, State
from tests.engine.conftest import ClientWith, Gates, States, Words
from tests.engine.jobs import Hooked
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]

BATCH = 50


async def one_commit(database: Any, job_id: UUID, state: str) -> bool:
    """Whether the ended row and the effect of this state's hook were written by one transaction."""
    ended = await database.fetchval("select xmin::text from carafe.jobs_ended where id = $1", job_id)
    effect = await database.fetchval("select xmin::text from effects where job_id = $1 and word = $2", job_id, state)
    return ended is not None and ended == effect


async def test_claim_and_success_run_their_hooks_in_their_own_commits(
    client: Client, database: Any, effects: Words, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        job = await client.enqueue(Hooked(gate=number))
        await becomes(job.id, State.RUNNING)
        assert await effects(job.id) == ["running"]
        row = await database.fetchval("select xmin::text from carafe.jobs where id = $1", job.id)
        assert row == await database.fetchval("select xmin::text from effects where job_id = $1", job.id)
    assert (await client.wait(job.id, timeout=20)).result == "done"
    assert await effects(job.id) == ["running", "succeeded"]
    assert await one_commit(database, job.id, "succeeded")


async def test_retry_promotion_and_death_run_theirs(client_with: ClientWith, database: Any, effects: Words) -> None:
    client = client_with(max_retries=1)
    job = await client.enqueue(Hooked(what="fail"))
    assert (await client.wait(job.id, timeout=20)).state is State.DEAD
    assert await effects(job.id) == ["running", "retrying", "queued", "running", "dead"]
    assert await one_commit(database, job.id, "dead")


async def test_cancelling_a_running_job_runs_its_hook(
    client: Client, database: Any, effects: Words, becomes: States, gate: Gates
) -> None:
    async with gate() as number:
        job = await client.enqueue(Hooked(gate=number))
        await becomes(job.id, State.RUNNING)
        await client.cancel(job.id)
        await becomes(job.id, State.CANCELLED)
    assert await effects(job.id) == ["running", "cancelled"]
    assert await one_commit(database, job.id, "cancelled")


@pytest.mark.parametrize("state", ["running", "succeeded"])
async def test_a_bad_hook_fails_its_own_job_and_never_its_batch(
    client_with: ClientWith, database: Any, effects: Words, state: str
) -> None:
    client = client_with(max_retries=0)
    jobs = await client.enqueue_many([Hooked(bad=state if index == 17 else "") for index in range(BATCH)])
    bad = jobs.pop(17)
    for job in jobs:
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    record = await client.wait(bad.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "HookFailed")
    assert record.error is not None
    assert f"ValueError: no {state}, please" in record.error
    assert record.attempts[0].cause == "hook"
    # What the bad one had written went with its transaction.
    assert await effects(bad.id) == (["dead"] if state == "running" else ["running", "dead"])
    ids = [job.id for job in jobs]
    words = await database.fetch("select word, count(*) from effects where job_id = any($1) group by 1 order by 1", ids)
    assert [tuple(row) for row in words] == [("running", BATCH - 1), ("succeeded", BATCH - 1)]


HOOK_FAULTS = {
    "TimeoutError": "TimeoutError: no succeeded, please",
    "OSError": "ConnectionRefusedError: no succeeded, please",
    "InterfaceError": "InterfaceError: no succeeded, please",
    "Deadlock": "DeadlockDetectedError: no succeeded, please",
    "a timeout of its own": "TimeoutError",
    "cancels everybody": "CancelledError",
}
"""What looks like Postgres's fault, or harms the engine, and is the hook's own."""


@pytest.mark.parametrize("how", HOOK_FAULTS)
async def test_a_hook_that_fails_as_a_lost_connection_does_fails_its_own_job(
    client_with: ClientWith, worker: WorkerProcess, how: str
) -> None:
    client = client_with(max_retries=0)
    jobs = await client.enqueue_many([Hooked(bad="succeeded" if index == 2 else "", how=how) for index in range(5)])
    bad = jobs.pop(2)
    record = await client.wait(bad.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "HookFailed")
    assert record.error is not None
    assert HOOK_FAULTS[how] in record.error
    for job in jobs:
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    if how == "cancels everybody":
        assert worker.events("a hook has tried to cancel tasks that are not its own: the tasks go on", job_id=str(bad.id))
    assert worker.probe("/livez") == (200, "ok")


async def test_a_hook_that_ends_its_connection_holds_up_nobody(
    client: Client, worker: WorkerProcess, database: Any, becomes: States
) -> None:
    # It cannot be told from a loss, so its own end stays with the worker and is tried again.
    jobs = await client.enqueue_many(
        [Hooked(bad="succeeded" if index == 2 else "", how="ends its connection") for index in range(5)]
    )
    bad = jobs.pop(2)
    for job in jobs:
        assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
    await eventually(
        lambda: [line for line in worker.events("ends not written, keeping them") if str(bad.id) in line["jobs"]]
    )
    for job in await client.enqueue_many([Hooked() for _ in range(5)]):
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert (await client.get(bad.id)).state is State.RUNNING
    await database.execute("insert into effects (word) values ('mended')")
    assert (await becomes(bad.id, State.SUCCEEDED, within=40)).attempt == 1


async def test_a_death_whose_hook_fails_is_written_without_it_and_says_so(client_with: ClientWith, effects: Words) -> None:
    client = client_with(max_retries=0)
    job = await client.enqueue(Hooked(what="fail", bad="dead"))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "LookupError")
    assert record.error is not None
    assert record.error.startswith("as told\n(and its hook failed: ")
    assert "ValueError: no dead, please" in record.error
    assert await effects(job.id) == ["running"]


async def test_hooks_of_neighbours_see_every_batch(client: Client, effects: Words) -> None:
    jobs = await client.enqueue_many([Hooked() for _ in range(10)])
    for job in jobs:
        await client.wait(job.id, timeout=20)

        async def both() -> bool:
            return await effects(job.id) == ["running", "succeeded"]  # noqa: B023  awaited in this very turn

        await eventually(both)


@pytest.mark.parametrize("state", ["running", "succeeded"])
async def test_a_hook_that_fails_is_logged_once_with_its_traceback_and_its_job_is_not_called_completed(
    client_with: ClientWith, worker: WorkerProcess, state: str
) -> None:
    client = client_with(max_retries=1)
    job = await client.enqueue(Hooked(bad=state))
    assert (await client.wait(job.id, timeout=20)).state is State.DEAD

    await eventually(lambda: worker.events("job failed", job_id=str(job.id)))
    failures = [line for line in worker.events_like("hook failed") if line["job_id"] == str(job.id)]
    assert len(failures) == 2, failures  # one for each attempt
    for line in failures:
        assert (line["event"], line["level"]) == ("hook failed, the attempt fails", "error")
        assert (line["kind"], line["hook"]) == ("engine.hooked", "tests.engine.jobs.remembers")
        assert line["error"] == f"ValueError: no {state}, please"
        assert "Traceback (most recent call last)" in line["exception"]
        assert "in remembers" in line["exception"]
    said = [line["event"] for line in worker.events_like("job ") if line["job_id"] == str(job.id)]
    begun = ["job started"] if state == "succeeded" else []
    assert said == [*begun, "job retried", *begun, "job failed"]


async def test_a_job_is_called_completed_when_its_end_is_written_and_not_before(
    client: Client, database: Any, worker: WorkerProcess, becomes: States, gate: Gates
) -> None:
    hooks = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into effects%'"

    async def waits() -> bool:
        return bool(await database.fetchval(hooks))

    async with database.acquire() as holder:
        async with gate() as number:
            job = await client.enqueue(Hooked(gate=number))
            await becomes(job.id, State.RUNNING)
            lock = holder.transaction()
            await lock.start()
            await holder.execute("lock table effects in exclusive mode")  # its hook will wait for this
        await eventually(waits)
        assert worker.events("job completed", job_id=str(job.id)) == []
        await lock.rollback()
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: worker.events("job completed", job_id=str(job.id)))
