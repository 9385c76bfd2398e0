"""A transaction that is left open holds back vacuum (a dump, a forgotten console).

No beat grows dearer by it; and doctor, the attention list and the metrics name who it is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from carafe.database import plain_dsn, plan_by_index
from carafe.doctor import Finding, Level, _vacuum
from carafe.jobs import Client, statements
from carafe.jobs.held_back import held_back
from carafe.readmodel.model import ReadModel
from carafe.testing.databases import Databases
from tests.plans.explaining import Cost, cost
from tests.plans.population import BATCH, LOST, WORKER, WORKERS, fill, ids
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

ENDED = 6_000
"""Jobs that a worker has claimed and ended while the transaction was open."""

NO_OPS = """
with made as (
    insert into carafe.jobs (id, kind, state, args, version, max_attempts, timeout, created_at, due_at, hinted_at)
    select gen_random_uuid(), 'plans.job', 'queued', '{}', 1, 1, 60, now(), now(), now() from generate_series(1, $1)
    returning id
)
select array_agg(id) from made
"""


@asynccontextmanager
async def connected(url: str, name: str = "") -> AsyncIterator[Any]:
    connection = await asyncpg.connect(plain_dsn(url), server_settings={"jit": "off", "application_name": name})
    try:
        await plan_by_index(connection)
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def left_open(url: str, name: str = "forgotten console") -> AsyncIterator[int]:
    """A transaction with a snapshot, idle."""
    async with connected(url, name) as forgotten:
        transaction = forgotten.transaction(isolation="repeatable_read")
        await transaction.start()
        await forgotten.fetchval("select count(*) from carafe.workers")
        yield forgotten.get_server_pid()
        await transaction.rollback()


async def run_no_ops(connection: Any, jobs: int) -> None:
    """As many jobs as a drain of a worker: claimed by it, and deleted."""
    made = await connection.fetchval(NO_OPS, jobs)
    await connection.execute(
        "update carafe.jobs set state = 'running', worker = $2, started_at = now(), fence = 1 where id = any($1)",
        made,
        WORKER,
    )
    await connection.execute("delete from carafe.jobs where id = any($1)", made)


BEAT_BY_WORKER = statements.Statement(
    "beat_by_worker",
    "",
    "select id, fence from carafe.jobs where worker = $1 and state = 'running' and cancel_requested_at is not null",
    ("id",),
)
"""How a beat looked for jobs to be cancelled before."""


async def test_a_beat_costs_what_the_worker_holds_whatever_it_has_held(databases: Databases) -> None:
    with databases.fresh() as url:
        async with connected(url) as connection, left_open(url):
            await connection.execute("alter table carafe.jobs set (autovacuum_enabled = false)")
            await connection.execute(WORKERS, WORKER, LOST)
            held = {"id": WORKER, "state": "running", "ids": ids("running"), "fences": [1] * BATCH, "settled": BATCH}

            async def beat() -> Cost:
                return await cost(connection, statements.WORKER_BEAT, held, "generic")

            before = await beat()
            by_worker = await cost(connection, BEAT_BY_WORKER, {"id": WORKER}, "generic")
            silent = await cost(connection, statements.WORKERS_SILENT, {"gone": False}, "generic")
            await run_no_ops(connection, ENDED)

            assert (await beat()).buffers <= before.buffers + 3 * BATCH  # three levels of an index for each that is held
            after = await cost(connection, statements.WORKERS_SILENT, {"gone": False}, "generic")
            assert after.buffers <= silent.buffers + 1
            # The way that it was passes every row that was ever its own.
            passes = await cost(connection, BEAT_BY_WORKER, {"id": WORKER}, "generic")
            assert passes.buffers > by_worker.buffers + ENDED / 30


async def test_a_look_for_due_jobs_goes_on_behind_those_that_became_due_before(databases: Databases) -> None:
    with databases.fresh() as url:
        async with connected(url) as connection, left_open(url):
            await connection.execute("alter table carafe.jobs set (autovacuum_enabled = false)")
            await connection.execute(WORKERS, WORKER, LOST)
            await fill(connection)
            everything = {"within": 1e9, "after": datetime(1970, 1, 1, tzinfo=UTC), "limit": 10_000}
            promoted = await connection.fetch(statements.PROMOTE.positional, *statements.PROMOTE.arguments(**everything))
            assert len(promoted) == 6_000
            beyond = {**everything, "after": max(row["due_at"] for row in promoted)}

            assert (await cost(connection, statements.PROMOTE, beyond, "generic")).buffers < BATCH
            assert (await cost(connection, statements.PROMOTE, everything, "generic")).buffers > 3 * BATCH


async def test_it_is_told_who_holds_back_vacuum(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.jobs.held_back.LONG", 0.0)
    monkeypatch.setattr("carafe.jobs.held_back.MANY", 100)
    url = carafe_client.database.url
    async with connected(url) as connection, left_open(url) as pid:
        await connection.execute(WORKERS, WORKER, LOST)
        await run_no_ops(connection, 200)

        async def counted() -> bool:
            await connection.execute("select pg_stat_force_next_flush()")
            return (await held_back(connection)).dead_rows >= 200

        await eventually(counted)

        found: list[Finding] = []
        await _vacuum(connection, found)
        [finding] = found
        assert finding.level is Level.WARNING
        assert finding.text.startswith(f"session {pid} (forgotten console, idle in transaction) has held back vacuum for ")
        assert f"pg_terminate_backend({pid})" in (finding.advice or "")

        attention = (await ReadModel(carafe_client.database).snapshot()).attention
        [item] = [item for item in attention if item.key == "vacuum-held-back"]
        assert item.text.startswith(f"session {pid} (forgotten console, idle in transaction) has held back vacuum for ")

    async with connected(url) as connection:
        assert (await held_back(connection)).holder is None


async def test_a_prepared_transaction_holds_it_back_too(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.jobs.held_back.LONG", 0.0)
    with databases.fresh() as url:
        async with connected(url) as connection:
            if await connection.fetchval("show max_prepared_transactions") == "0":
                pytest.skip("this server allows no prepared transactions")
            await connection.execute("begin; create table t (); prepare transaction 'left by an application'")
            holder = (await held_back(connection)).holder
            await connection.execute("rollback prepared 'left by an application'")
    assert holder is not None
    assert holder.words == "prepared transaction left by an application"
    assert "rollback prepared" in holder.advice


async def test_sessions_that_may_not_be_seen_are_counted(databases: Databases) -> None:
    with databases.fresh() as url:
        async with connected(url) as connection, left_open(url):
            await connection.execute("create role plans_reader nosuperuser; grant usage on schema carafe to plans_reader")
            try:
                await connection.execute("set role plans_reader")
                held = await held_back(connection)
                await connection.execute("reset role")
            finally:
                await connection.execute("drop owned by plans_reader; drop role plans_reader")
    assert held.holder is None
    assert held.unseen == 1
