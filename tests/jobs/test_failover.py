"""A Postgres that answers but does not accept writes, on a server of this module's own that is demoted and promoted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from carafe import Client, State, SyncClient, Unavailable
from carafe.dev.embedded import EmbeddedPostgres
from carafe.postgres_url import NotWritable, connect
from carafe.settings.settings import Settings
from carafe.store import blocking_connection
from carafe.store.database import Database, migrate
from carafe.web.application import create_web_application
from carafe.web.transactions import transaction
from chaos.failover import demote, promote, recover
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Greet
from tests.waiting import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(tmp_path_factory.mktemp("failover"), durable=False) as server:
        asyncio.run(migrate(server.url))
        yield server


@pytest.fixture
async def url(server: EmbeddedPostgres) -> AsyncIterator[str]:
    yield server.url
    await recover(server.url)


@pytest.fixture
async def client(url: str, carafe_redis_url: str) -> AsyncIterator[Client]:
    async with Client.connect(database_url=url, redis_url=carafe_redis_url) as client:
        yield client


async def accepted(client: Client) -> bool:
    """Whether a job is accepted. No other refusal than `Unavailable` is one."""
    try:
        await client.enqueue(Greet(name="again"))
    except Unavailable:
        return False
    return True


async def held(database: Database, number: int) -> None:
    """Fill the pool with this many open connections."""
    gate = asyncio.Event()

    async def hold() -> None:
        async with database.connection() as connection:
            await connection.fetchval("select 1")
            if len(database._in_use) == number:
                gate.set()
            await gate.wait()

    await asyncio.gather(*(hold() for _ in range(number)))


async def test_every_action_on_a_demoted_server_is_unavailable_and_the_client_finds_the_new_one(
    client: Client, url: str
) -> None:
    job = await client.enqueue(Greet(name="before"))
    await held(client.database, 8)
    await demote(url)

    refused: list[str] = []
    for act in (
        lambda: client.enqueue(Greet(name="during")),
        lambda: client.enqueue(Greet(name="during"), idempotency_key="k"),
        lambda: client.enqueue_many([Greet(name="during")] * 3),
        lambda: client.cancel(job.id),
        lambda: client.pause(),
        lambda: client.resume(),
    ):
        with pytest.raises(Unavailable) as raised:
            await act()
        refused.append(str(raised.value))
    # In words, and what was refused is not stored, which the server has said itself.
    assert all("nothing was changed" in words and "does not accept writes" in words for words in refused), refused
    # Nobody is let through to a server that does not accept writes.
    await eventually(lambda: _known_to_be_away(client))

    await promote(url)
    await eventually(lambda: accepted(client))
    # From the first one on: no connection of before is left to be given to somebody.
    for _ in range(30):
        await client.enqueue(Greet(name="after"))
    assert {found.args["name"] for found in (await client.find()).jobs} <= {"before", "again", "after"}
    await client.cancel(job.id)


async def test_a_synchronous_client_finds_the_new_server_too(url: str, carafe_redis_url: str) -> None:
    with SyncClient.connect(database_url=url, redis_url=carafe_redis_url) as client:
        job = client.enqueue(Greet(name="before"))
        await demote(url)
        for _ in range(2):
            with pytest.raises(Unavailable, match="does not accept writes"):
                client.enqueue(Greet(name="during"))
            with pytest.raises(Unavailable):
                client.cancel(job.id)
        await promote(url)

        def goes_on() -> bool:
            try:
                client.enqueue(Greet(name="after"))
            except Unavailable:
                return False
            return True

        await eventually(goes_on)
        assert client.get(job.id).state is State.QUEUED


async def test_old_connections_cost_one_refusal_when_the_new_server_is_there_at_once(client: Client, url: str) -> None:
    await held(client.database, 8)
    await promote(url)  # what is open now may not write; what is made from now on may

    outcomes = [await accepted(client) for _ in range(20)]

    assert outcomes.count(False) == 1
    assert outcomes[0] is False


async def test_sessions_of_before_are_not_given_to_anybody(client: Client, url: str) -> None:
    async def order() -> None:
        async with transaction(client) as session:
            await session.execute(text("select 1"))
            await client.enqueue(Greet(name="in a session"), session=session)

    async def several() -> list[BaseException | None]:
        return await asyncio.gather(*(order() for _ in range(6)), return_exceptions=True)

    assert not any(await several())
    await promote(url)

    with pytest.raises(Unavailable, match="nothing was changed"):
        await order()

    assert not any(await several())


async def test_an_end_is_kept_until_the_new_server_takes_it(client: Client, url: str) -> None:
    worker = ByHand(client.database)
    job = await client.enqueue(Greet(name="to end"))
    [claim] = await worker.claim(job.id)
    await demote(url)

    writing = asyncio.create_task(worker.succeed(claim, '"done"'))
    await eventually(lambda: _known_to_be_away(client))
    assert not writing.done()
    await promote(url)
    await writing

    record = await client.get(job.id)
    assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, "done", 1)


async def test_health_and_the_api_say_that_it_may_not_be_written(
    client: Client, url: str, carafe_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.web.health.KEPT", 0.0)
    given = {"database_url": url, "redis_url": carafe_redis_url, "dashboard": False, "steward": False}
    settings = Settings.model_validate(given)
    app = create_web_application(settings, client=client)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/health")).json()["status"] == "ok"
        await demote(url)
        health = await http.get("/health")
        assert health.status_code == 503
        assert health.json()["checks"]["postgres"] == {
            "status": "down",
            "reason": "does not accept writes: it is a standby, or read-only",
        }
        for _ in range(2):  # by the server's own word, and by the probe's
            answer = await http.post("/api/v1/queues/default/pause")
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
            assert "does not accept writes" in answer.json()["detail"]
            await eventually(lambda: _known_to_be_away(client))


async def test_reading_goes_on_where_nothing_may_be_written(url: str) -> None:
    database = Database(url, read_only=True)
    try:
        await demote(url)
        async with database.connection() as connection:
            assert await connection.fetchval("select count(*) >= 0 from carafe.jobs")
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute("create table t (n int)")
    finally:
        await database.close()


async def test_of_several_hosts_the_writable_one_is_taken(url: str, tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as other:
        # Two servers of one cluster would have one password.
        password = urlsplit(url).password
        connection = await connect(other.url)
        await connection.execute(f"alter role postgres password '{password}'")
        await connection.close()
        second = f"postgresql://postgres:{password}@127.0.0.1:{other.port}/postgres"
        both = f"postgresql://postgres:{password}@127.0.0.1:{urlsplit(url).port},127.0.0.1:{other.port}/postgres"

        async def port(**options: Any) -> int:
            connection = await connect(both, **options)
            try:
                return int(await connection.fetchval("select inet_server_port()"))
            finally:
                await connection.close()

        async def port_of_blocking() -> int:
            connection = blocking_connection.connect(both, name="test")
            try:
                return int(await connection.fetchval("select inet_server_port()"))
            finally:
                connection.terminate()

        first = await port()
        assert first != other.port
        assert await port_of_blocking() == first
        await demote(url)
        assert await port() == other.port
        assert await port_of_blocking() == other.port
        await demote(second)
        with pytest.raises(NotWritable, match="does not accept writes"):
            await port()
        with pytest.raises(NotWritable, match="does not accept writes"):
            await port_of_blocking()
        assert await port(writable=False, server_settings={"default_transaction_read_only": "on"})
        await recover(url)
        assert await port() == first


def _known_to_be_away(client: Client) -> bool:
    try:
        client.database.require()
    except Unavailable:
        return True
    return False
