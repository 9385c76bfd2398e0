"""Handlers have connections of their own, one for each slot. Connections that a handler leaves open are closed and logged,
and no other job lacks one."""

from typing import Any

import pytest

from carafe import Client, State
from tests.engine.conftest import ClientWith, Gates, Words
from tests.engine.leaking_jobs import Followed, Leak, Together
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker")]

SLOTS = 20
SAID = "a handler has left connections to Postgres open"


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.leaking_jobs",
        "HANDLER_MODULES": "tests.engine.leaking_handlers",
        "WORKER_CONCURRENCY": str(SLOTS),
    }


def named(worker: WorkerProcess, job_id: Any) -> list[dict[str, Any]]:
    """What the log says of connections that this job has left open."""
    return [line for line in worker.events_like(SAID) if line["job_id"] == str(job_id)]


async def open_sessions(database: Any, name: str) -> int:
    """Connections of handlers to the module's database whose last statement has this in it."""
    count: int = await database.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like 'carafe handlers%' and query like $1",
        f"%{name}%",
    )
    return count


async def test_as_many_handlers_as_slots_hold_a_session_each(client: Client) -> None:
    jobs = [await client.enqueue(Together(count=SLOTS)) for _ in range(SLOTS)]
    records = [await client.wait(job.id, timeout=40) for job in jobs]
    assert {record.state for record in records} == {State.SUCCEEDED}
    assert {record.attempt for record in records} == {1}


@pytest.mark.parametrize("how", ["session", "engine connection", "transaction", "connection", "pool", "task"])
@pytest.mark.parametrize("end", ["return", "raise", "hang"])
async def test_what_a_handler_leaves_open_is_closed_and_named(
    how: str, end: str, client_with: ClientWith, database: Any, worker: WorkerProcess
) -> None:
    client = client_with(max_retries=0, timeout=1 if end == "hang" else 30)
    # More than the pool has, one after the other: each gives back what it took.
    jobs = [await client.enqueue(Leak(how=how, end=end)) for _ in range(3)]
    records = [await client.wait(job.id, timeout=20) for job in jobs]
    assert {record.state for record in records} == {State.SUCCEEDED if end == "return" else State.DEAD}

    async def closed() -> bool:
        idle_in_transaction = await database.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name like"
            " 'carafe handlers%' and (state like 'idle in transaction%' or query like '%leaked%')"
        )
        return bool(idle_in_transaction == 0)

    await eventually(closed)
    for line in worker.events_like(SAID):
        assert (line["kind"], line["connections"]) == ("leaking.leak", 1)


@pytest.mark.parametrize("how", ["session", "collected"])
async def test_the_log_names_kind_and_job(how: str, client: Client, worker: WorkerProcess) -> None:
    # At most one line a second and kind, so of some that follow each other one is named.
    async def is_named() -> bool:
        job = await client.enqueue(Leak(how=how))
        await client.wait(job.id, timeout=20)
        return bool(named(worker, job.id))

    await eventually(is_named, 20)


async def test_leaked_connections_stop_no_hook_and_no_end(
    client: Client, database: Any, gate: Gates, effects: Words, worker: WorkerProcess
) -> None:
    async with gate() as number:
        # All of the handlers' connections, of both kinds, are held by one of them, which runs on.
        leaks = [await client.enqueue(Leak(how=how, count=SLOTS + 2, gate=number)) for how in ("session", "connection")]

        async def all_taken() -> bool:
            return await open_sessions(database, "leaked") >= 2 * (SLOTS + 2)

        await eventually(all_taken, 30)
        jobs = [await client.enqueue(Followed()) for _ in range(5)]
        for job in jobs:
            assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
            assert await effects(job.id) == ["running", "succeeded"]
    for leak in leaks:
        assert (await client.wait(leak.id, timeout=20)).state is State.SUCCEEDED
    # And the pool is whole again.
    jobs = [await client.enqueue(Together(count=SLOTS)) for _ in range(SLOTS)]
    assert {(await client.wait(job.id, timeout=40)).state for job in jobs} == {State.SUCCEEDED}
