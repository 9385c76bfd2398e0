"""A transaction that is left open holds back vacuum (a dump, a forgotten console).

Heartbeats do not become more expensive because of that, and doctor, the attention list and the metrics name the session.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from psycopg import pq
from psycopg.pq.abc import PGconn

from carafe import Client
from carafe.cli.doctor import Finding, Level, _vacuum
from carafe.jobs.identifiers import uuid7
from carafe.readmodel.model import ReadModel
from carafe.steward.exported import Exporter
from carafe.steward.gauges import Sampler
from carafe.steward.lease import Lease
from carafe.steward.statements import PROMOTE, WORKERS_SILENT
from carafe.store.database import plain_dsn, plan_by_index
from carafe.store.held_back import held_back
from carafe.store.statement import Statement
from carafe.store.statements import WORKER_BEAT
from carafe.telemetry import metrics
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


BEAT_BY_WORKER = Statement(
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
                return await cost(connection, WORKER_BEAT, held, "generic")

            before = await beat()
            by_worker = await cost(connection, BEAT_BY_WORKER, {"id": WORKER}, "generic")
            silent = await cost(connection, WORKERS_SILENT, {"gone": False}, "generic")
            await run_no_ops(connection, ENDED)

            assert (await beat()).buffers <= before.buffers + 3 * BATCH  # three levels of an index for each that is held
            after = await cost(connection, WORKERS_SILENT, {"gone": False}, "generic")
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
            everything: dict[str, Any] = {"within": 1e9, "after": datetime(1970, 1, 1, tzinfo=UTC), "limit": 10_000}
            promoted = await PROMOTE.fetch(connection, **everything)
            assert len(promoted) == 6_000
            beyond = {**everything, "after": max(row["due_at"] for row in promoted)}

            assert (await cost(connection, PROMOTE, beyond, "generic")).buffers < BATCH
            assert (await cost(connection, PROMOTE, everything, "generic")).buffers > 3 * BATCH


async def test_it_is_told_who_holds_back_vacuum(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.store.held_back.LONG", 0.0)
    monkeypatch.setattr("carafe.store.held_back.MANY", 100)
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
    monkeypatch.setattr("carafe.store.held_back.LONG", 0.0)
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


@asynccontextmanager
async def standby(url: str, slot: str) -> AsyncIterator[PGconn]:
    """What a standby with hot_standby_feedback does: reads from a slot, and says what its oldest snapshot is."""
    async with connected(url) as connection:
        if await connection.fetchval("show wal_level") == "minimal":
            pytest.skip("this server lets nobody replicate")
        await connection.execute("select pg_create_physical_replication_slot($1, true)", slot)
        oldest = await connection.fetchval("select cast(pg_snapshot_xmin(pg_current_snapshot()) as text)")
        replica = pq.PGconn.connect(f"{plain_dsn(url)}?replication=true&application_name={slot}".encode())
        try:
            where = replica.exec_(b"IDENTIFY_SYSTEM").get_value(0, 2)
            assert where is not None, replica.error_message
            begun = replica.exec_(b"START_REPLICATION SLOT %s PHYSICAL %s" % (slot.encode(), where))
            assert begun.status == pq.ExecStatus.COPY_BOTH, replica.error_message
            epoch, xmin = divmod(int(oldest), 1 << 32)
            replica.put_copy_data(b"h" + struct.pack("!qIIII", 0, xmin, epoch, 0, 0))
            replica.flush()

            async def held() -> bool:
                found = await connection.fetchval("select xmin from pg_replication_slots where slot_name = $1", slot)
                return found is not None

            await eventually(held)
            yield replica
        finally:
            replica.finish()
            drop = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active"
            await eventually(lambda: connection.fetchval(f"with gone as ({drop}) select count(*) from gone", slot))


async def test_a_replication_slot_that_holds_it_back_is_named_wherever_one_looks(
    carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.store.held_back.MANY", 100)
    database, queue = carafe_client.database, carafe_client.queue
    slot = f"carafe_tests_{uuid7().hex}"
    async with connected(database.url) as connection, standby(database.url, slot) as replica:
        await connection.execute(WORKERS, WORKER, LOST)
        await run_no_ops(connection, 200)
        # As long as it is read, its snapshot may move on.
        assert (await held_back(connection)).holder is None
        with monkeypatch.context() as at_once:
            at_once.setattr("carafe.store.held_back.LONG", 0.0)
            holder = (await held_back(connection)).holder
        assert holder is not None
        assert (holder.words, holder.pid) == (f"replication slot {slot} (active)", replica.backend_pid)
        assert "hot_standby_feedback" in holder.advice

        replica.finish()

        async def left() -> bool:
            await connection.execute("select pg_stat_force_next_flush()")
            held = await held_back(connection)
            return held.holder is not None and held.holder.state == "inactive" and held.matters

        await eventually(left)
        found: list[Finding] = []
        await _vacuum(connection, found)
        [finding] = found
        assert (finding.level, finding.text.split(" has held back vacuum for ")[0]) == (
            Level.WARNING,
            f"replication slot {slot} (inactive)",
        )
        assert f"pg_drop_replication_slot('{slot}')" in (finding.advice or "")
        attention = (await ReadModel(database).snapshot()).attention
        [item] = [item for item in attention if item.key == "vacuum-held-back"]
        assert item.text.startswith(f"replication slot {slot} (inactive) has held back vacuum for ")

        # And the metric of the alert grows while it stands still.
        lease = Lease(database, "steward", uuid7(), "tests")
        assert await lease.renew()
        exporter = Exporter(database, queue, lease)
        await Sampler(database).work()
        await exporter.work()
        first = exporter.values(metrics.VACUUM_HELD)[()]
        await exporter.work()
        assert 0 < first < exporter.values(metrics.VACUUM_HELD)[()]


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
