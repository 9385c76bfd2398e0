"""A check of Postgres fails exactly when an enqueue would fail (a lock, a full disk), and pages and metrics agree with
it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from carafe import Client, Unavailable
from carafe.postgres_url import connect
from carafe.process.metrics import vitals
from carafe.readmodel.model import ReadModel
from carafe.settings.settings import Settings
from carafe.store import acceptance as module
from carafe.store.database import Database
from carafe.telemetry import metrics
from carafe.web.application import create_web_application
from tests.jobs.kinds import Greet
from tests.waiting import eventually

FULL = """
    create function pg_temp_full() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$;
    create trigger full_disk before insert on carafe.jobs for each statement execute function pg_temp_full()
"""
NOT_FULL = "drop trigger full_disk on carafe.jobs; drop function pg_temp_full()"


@pytest.fixture
async def other(carafe_client: Client) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A session of somebody else."""
    connection = await connect(carafe_client.database.url)
    yield connection
    await connection.close()


@asynccontextmanager
async def health_of(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    app = create_web_application(Settings.model_validate({"dashboard": False, "steward": False}), client=client)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        yield http


async def seen(client: Client, http: httpx.AsyncClient) -> tuple[str | None, str | None, float | None]:
    """The reason of /health, what needs attention, and the metric."""
    health = (await http.get("/health")).json()
    assert (health["status"] == "down") is ("reason" in health["checks"]["postgres"])
    database = Database(client.database.url, read_only=True, pool_size=1)
    try:
        found = (await ReadModel(database, acceptance=client.acceptance).snapshot()).attention
    finally:
        await database.close()
    attention = next((one.text for one in found if one.key == "postgres"), None)
    return health["checks"]["postgres"].get("reason"), attention, metrics.POSTGRES_UP.read().get(())


async def test_a_full_disk_is_said_everywhere(
    carafe_client: Client, other: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.process.metrics.INTERVAL", 0.02)
    monkeypatch.setattr("carafe.web.health.KEPT", 0.0)
    full = "is full: no space is left on its disk"
    async with (
        vitals(carafe_client.database, carafe_client.queue, carafe_client.acceptance),
        health_of(carafe_client) as http,
    ):
        await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 1})
        assert (await seen(carafe_client, http))[:2] == (None, None)
        await other.execute(FULL)
        with pytest.raises(Unavailable, match=f"the database {full}; nothing was changed"):
            await carafe_client.enqueue(Greet(name="full"))
        await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 0})
        reason, attention, _ = await seen(carafe_client, http)
        assert reason == full
        assert attention == f"jobs can be neither accepted nor finished: Postgres {full}"
        await other.execute(NOT_FULL)
        await carafe_client.enqueue(Greet(name="room again"))
        await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 1})
        assert (await seen(carafe_client, http))[:2] == (None, None)
    assert [job.args["name"] for job in (await carafe_client.find()).jobs] == ["room again"]


@pytest.mark.parametrize("code", ["25006", "53100", "53200", "53300", "57P01", "57P02", "57P03", "57P04", "57P05", "58030"])
async def test_a_server_that_says_it_cannot_is_away(
    carafe_client: Client, other: "asyncpg.Connection[asyncpg.Record]", code: str
) -> None:
    await other.execute(FULL.replace("53100", code))
    with pytest.raises(Unavailable):
        await carafe_client.enqueue(Greet(name="refused"))
    await other.execute(NOT_FULL)
    await eventually(lambda: not carafe_client.database.away)
    await carafe_client.enqueue(Greet(name="taken again"))


async def test_a_locked_table_is_said_and_what_is_tried_leaves_nothing(
    carafe_client: Client, other: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.process.metrics.INTERVAL", 0.02)
    monkeypatch.setattr(module, "LOCKED", 0.1)
    async with vitals(carafe_client.database, carafe_client.queue), health_of(carafe_client) as http:
        await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 1})
        async with other.transaction():
            await other.execute("lock table carafe.jobs in access exclusive mode")
            answer = await http.get("/health")
            assert (answer.status_code, answer.json()["status"]) == (503, "down")
            assert answer.json()["checks"]["postgres"]["reason"].startswith("is locked: another session has held")
            # A worker's own look, over its pool, too.
            await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 0})
        await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 1})
        await eventually(lambda: _is_ok(http))
    assert await other.fetchval("select count(*) from carafe.jobs") == 0


async def test_an_enqueue_behind_a_lock_is_told_so_and_its_outcome_is_known(
    carafe_client: Client, other: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.client.client.LOCK_TIMEOUT", 0.1)
    given = {"database_url": carafe_client.database.url, "redis_url": "redis://127.0.0.1:1/0"}
    async with Client.from_settings(Settings.model_validate(given)) as client, other.transaction():
        await other.execute("lock table carafe.jobs in access exclusive mode")
        for _ in range(2):  # the pool resets a connection that is given back
            with pytest.raises(Unavailable, match=r"is locked: another session has held .*nothing was changed"):
                await client.enqueue(Greet(name="behind it"))
        assert not client.database.away


async def test_a_refusal_counts_until_a_job_is_accepted(carafe_client: Client) -> None:
    # A disk may have room for what a check tries, and none for what callers send.
    carafe_client.acceptance.refused(Unavailable(asyncpg.DiskFullError("No space left on device")))
    assert await carafe_client.acceptance.trouble() == "is full: no space is left on its disk"
    await carafe_client.enqueue(Greet(name="small"))
    assert await carafe_client.acceptance.trouble() is None


async def _is_ok(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health")).status_code == 200
