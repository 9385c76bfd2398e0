"""What a `SyncClient` says while Postgres or Redis is away, and when a connection is cut at the worst moment."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from carafe import Client, OutcomeUnknown, SyncClient, Unavailable
from carafe.errors import Busy
from carafe.postgres_away import words
from carafe.queue.queue import Queue
from carafe.settings.settings import Settings
from carafe.store.blocking_database import BlockingDatabase
from carafe.store.database import Database
from carafe.telemetry import metrics
from tests.jobs.kinds import Greet
from tests.proxy import Proxy
from tests.waiting import eventually


@pytest.fixture
async def client(postgres: Proxy, redis: Proxy) -> AsyncIterator[SyncClient]:
    """A client that reaches both through proxies, on one connection, which has done this before."""
    with SyncClient.connect(database_url=postgres.url, redis_url=redis.url, pool_size=1) as client:
        await apart(client.enqueue, Greet(name="warm"), idempotency_key="warm")
        await apart(client.enqueue, Greet(name="warm"))
        yield client


async def apart(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Runs a blocking call beside the proxies, which need the loop."""
    return await asyncio.to_thread(call, *arguments, **options)


def stored(url: str, name: str) -> int:
    """How many jobs with this name there are."""
    with psycopg.connect(url) as connection:
        query = "select count(*) from carafe.jobs where args ->> 'name' = %s"
        row = connection.execute(query, [name]).fetchone()
        assert row is not None
        number: int = row[0]
        return number


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_cut_at_the_statement_that_commits_leaves_the_outcome_unknown(
    client: SyncClient, postgres: Proxy, carafe_database_url: str, key: str | None, when: Any
) -> None:
    # Without a key the statement commits itself; with one there is a transaction, and its commit is what matters.
    postgres.cut_at(b"cut me" if key is None else b"commit", when)

    with pytest.raises(OutcomeUnknown, match="it is not known whether the job was stored"):
        await apart(client.enqueue, Greet(name="cut me"), idempotency_key=key)

    assert postgres.cut.is_set()
    assert stored(carafe_database_url, "cut me") == (when == "after")
    if key is not None:
        again = await apart(client.enqueue, Greet(name="cut me"), idempotency_key=key)
        assert again.replayed == (when == "after")
        assert stored(carafe_database_url, "cut me") == 1


async def test_a_connection_cut_before_the_commit_stores_nothing(
    client: SyncClient, postgres: Proxy, carafe_database_url: str
) -> None:
    postgres.cut_at(b"cut me", "after")

    with pytest.raises(Unavailable, match="nothing was changed") as raised:
        await apart(client.enqueue, Greet(name="cut me"), idempotency_key="k")

    assert not isinstance(raised.value, OutcomeUnknown)
    assert stored(carafe_database_url, "cut me") == 0
    assert not (await apart(client.enqueue, Greet(name="cut me"), idempotency_key="k")).replayed


async def test_a_postgres_that_is_away_is_tried_by_one_call_at_a_time(client: SyncClient, postgres: Proxy) -> None:
    await postgres.refuse()
    with pytest.raises(Unavailable):
        await apart(client.find)
    accepted = postgres.accepted
    for _ in range(20):
        with pytest.raises(Unavailable, match="the database cannot be reached"):
            await apart(client.enqueue, Greet(name="during"))
    assert client._client.database.away
    await postgres.listen()
    assert postgres.accepted == accepted

    async def back() -> bool:
        try:
            await apart(client.enqueue, Greet(name="after"))
        except Unavailable:
            return False
        return True

    await eventually(back)
    assert not client._client.database.away


async def test_connections_that_the_server_has_ended_are_given_to_nobody(
    carafe_sync_client: SyncClient, carafe_database_url: str
) -> None:
    client = carafe_sync_client
    await asyncio.gather(*(apart(client.enqueue, Greet(name=str(number))) for number in range(8)))
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    await asyncio.gather(*(apart(client.enqueue, Greet(name="after")) for _ in range(8)))

    assert stored(carafe_database_url, "after") == 8


async def test_a_server_that_falls_silent_costs_a_caller_its_timeout(postgres: Proxy, carafe_redis_url: str) -> None:
    patient = Client(Database(postgres.url, command_timeout=0.2, by_index=True), Queue(carafe_redis_url))
    with SyncClient(patient) as client:
        await apart(client.enqueue, Greet(name="before"))
        postgres.fall_silent()
        with pytest.raises(OutcomeUnknown, match="the database has not answered in time"):
            await apart(client.enqueue, Greet(name="during"))
        with pytest.raises(Unavailable):
            await apart(client.enqueue, Greet(name="during"), idempotency_key="k")


def test_an_enqueue_behind_a_lock_is_told_so_and_its_outcome_is_known(
    carafe_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.client.client.LOCK_TIMEOUT", 0.1)
    given = {"database_url": carafe_database_url, "redis_url": "redis://127.0.0.1:1/0"}
    with SyncClient.from_settings(Settings.model_validate(given)) as client, psycopg.connect(carafe_database_url) as other:
        other.execute("lock table carafe.jobs in access exclusive mode")
        for _ in range(2):
            with pytest.raises(Busy, match=r"is locked: another session has held .*nothing was changed"):
                client.enqueue(Greet(name="behind it"))
        other.rollback()
        client.enqueue(Greet(name="after it"))


async def test_a_statement_that_takes_too_long_is_cancelled_and_its_connection_goes_on(carafe_database_url: str) -> None:
    database = BlockingDatabase(Database(carafe_database_url))
    async with database.connection() as connection:
        with pytest.raises(TimeoutError):
            await connection.fetch("select pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("select $1::int", 7) == 7
    async with database.connection() as again:
        assert again is connection
    await database.close()


def test_more_threads_than_connections_are_told_so(carafe_database_url: str, carafe_redis_url: str) -> None:
    url = f"{carafe_database_url}?connect_timeout=1"
    with SyncClient.connect(database_url=url, redis_url=carafe_redis_url, pool_size=1) as client:
        database: Any = client._client.database
        database._pool_here().room.acquire()
        with pytest.raises(Unavailable, match="all connections of this process to the database are busy"):
            client.find()
        database._pool_here().room.release()
        assert client.find().jobs == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: f"{url}?user=nobody&password=nothing", "does not accept the user and password of DATABASE_URL"),
        (lambda url: f"{url.rpartition('/')[0]}/nowhere", "has no database of the name in DATABASE_URL"),
        (lambda url: "postgresql://carafe@127.0.0.1:1/carafe", "cannot be reached"),
    ],
)
def test_why_it_cannot_connect_is_said_in_words(carafe_database_url: str, change: Callable[[str], str], says: str) -> None:
    url = change(carafe_database_url)
    with SyncClient.connect(database_url=url, redis_url="redis://127.0.0.1:1/0") as client:
        with pytest.raises(Unavailable) as raised:
            client.find()
        assert words(raised.value) == says


@pytest.mark.parametrize("fault", ["refuses", "is silent", "hangs up"])
async def test_a_redis_that_is_away_costs_a_hint_and_never_a_job(
    client: SyncClient, redis: Proxy, hinted: Callable[[], list[UUID]], carafe_database_url: str, fault: str
) -> None:
    known = hinted()
    unpushed = metrics.HINTS_UNPUSHED.read()
    match fault:
        case "refuses":
            await redis.refuse()
        case "is silent":
            redis.fall_silent()
        case "hangs up":
            redis.cut_at(b"LPUSH", "before")
    accepted_before = redis.accepted

    def enqueue() -> list[UUID]:
        return [client.enqueue(Greet(name="job")).id for _ in range(50)]

    accepted = await apart(enqueue)

    assert stored(carafe_database_url, "job") == 50
    assert accepted[0] not in hinted()
    assert metrics.HINTS_UNPUSHED.read() != unpushed
    if fault != "hangs up":
        # The breaker: 50 pushes, and only a few tries.
        assert redis.accepted - accepted_before < 10
        assert hinted() == known
