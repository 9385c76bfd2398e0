"""Without Postgres, without Redis, or with a connection that is cut at the worst moment: which error the caller gets, and
that nothing is lost."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
from asyncpg import ConnectionDoesNotExistError

from carafe import Client, OutcomeUnknown, State, Unavailable
from carafe.dev.embedded import EmbeddedPostgres
from carafe.settings.settings import Settings
from carafe.steward.repairer import Repairer
from carafe.store.database import migrate
from tests.jobs.by_hand import count
from tests.jobs.kinds import Greet
from tests.proxy import Proxy
from tests.waiting import eventually


@pytest.fixture
async def client(postgres: Proxy, redis: Proxy) -> AsyncIterator[Client]:
    """A client that reaches both through proxies, on one connection, which has done this before."""
    async with Client.connect(database_url=postgres.url, redis_url=redis.url, pool_size=1) as client:
        warm = await client.enqueue(Greet(name="warm"), idempotency_key="warm")
        await client.cancel(warm.id)
        await client.cancel((await client.enqueue(Greet(name="warm"))).id)
        yield client


async def is_queued(client: Client, job_id: UUID) -> bool:
    """Whether the client finds the job waiting; not while it finds no Postgres."""
    try:
        return (await client.get(job_id)).state is State.QUEUED
    except Unavailable:
        return False


async def test_a_stopped_postgres_is_unavailable_and_the_client_recovers(tmp_path: Path, carafe_redis_url: str) -> None:
    server = EmbeddedPostgres(tmp_path, durable=False).start()
    port, url = server.port, server.url
    await migrate(url)
    async with Client.connect(database_url=url, redis_url=carafe_redis_url) as client:
        before = await client.enqueue(Greet(name="before"))
        server.stop()
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"nothing was changed|not known"):
                await client.enqueue(Greet(name="during"))
            with pytest.raises(Unavailable):
                await client.enqueue(Greet(name="during"), idempotency_key="k")
            with pytest.raises(Unavailable):
                await client.get(before.id)
            with pytest.raises(Unavailable):
                await client.find()
            with pytest.raises(Unavailable):
                await client.cancel(before.id)
        with EmbeddedPostgres(tmp_path, port=port, durable=False):
            await eventually(lambda: is_queued(client, before.id))
            await client.enqueue(Greet(name="after"))
            assert [job.args["name"] for job in (await client.find()).jobs] == ["after", "before"]


async def test_a_connection_that_was_in_use_when_postgres_went_does_not_keep_the_client_away(
    postgres: Proxy, carafe_redis_url: str
) -> None:
    async with Client.connect(database_url=postgres.url, redis_url=carafe_redis_url) as client:
        accepted = await client.enqueue(Greet(name="before"))
        async with client.database.connection() as held:
            await held.execute("select 1")
            await postgres.refuse()
            with pytest.raises(Unavailable):
                await client.get(accepted.id)
            await eventually(lambda: is_known_to_be_away(client))
            await postgres.listen()

            await eventually(lambda: is_queued(client, accepted.id))


async def test_a_statement_that_loses_its_connection_says_how(postgres: Proxy, carafe_redis_url: str) -> None:
    async with Client.connect(database_url=postgres.url, redis_url=carafe_redis_url) as client:

        async def lose_it() -> None:
            async with client.database.connection() as connection:
                await postgres.refuse()
                await connection.execute("select 1")

        with pytest.raises(ConnectionDoesNotExistError):
            await lose_it()
        # And that is when one looks whether Postgres is away.
        await eventually(lambda: is_known_to_be_away(client))


def is_known_to_be_away(client: Client) -> bool:
    """Whether everybody is told so at once."""
    try:
        client.database.require()
    except Unavailable:
        return True
    return False


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_cut_at_the_statement_that_commits_leaves_the_outcome_unknown(
    client: Client, postgres: Proxy, key: str | None, when: str
) -> None:
    # Without a key the statement commits itself; with one there is a transaction, and its commit is what matters.
    postgres.cut_at(b"cut me" if key is None else b"COMMIT", "before" if when == "before" else "after")

    with pytest.raises(OutcomeUnknown, match="it is not known whether the job was stored"):
        await client.enqueue(Greet(name="cut me"), idempotency_key=key)

    assert postgres.cut.is_set()
    assert await count(client.database) == (when == "after")
    if key is not None:
        again = await client.enqueue(Greet(name="cut me"), idempotency_key=key)
        assert again.replayed == (when == "after")
        assert await count(client.database) == 1


async def test_a_connection_cut_before_the_commit_stores_nothing(client: Client, postgres: Proxy) -> None:
    postgres.cut_at(b"cut me", "after")

    with pytest.raises(Unavailable, match="nothing was changed") as raised:
        await client.enqueue(Greet(name="cut me"), idempotency_key="k")

    assert not isinstance(raised.value, OutcomeUnknown)
    assert await count(client.database) == 0
    assert not (await client.enqueue(Greet(name="cut me"), idempotency_key="k")).replayed


@pytest.mark.parametrize("fault", ["refuses", "is silent", "hangs up"])
async def test_a_redis_that_is_away_costs_a_hint_and_never_a_job(
    client: Client, redis: Proxy, hinted: Callable[[], list[UUID]], carafe_redis_url: str, fault: str
) -> None:
    known = hinted()
    match fault:
        case "refuses":
            await redis.refuse()
        case "is silent":
            redis.fall_silent()
        case "hangs up":
            redis.cut_at(b"LPUSH", "before")
    accepted_before = redis.accepted

    accepted = [await client.enqueue(Greet(name=str(number))) for number in range(200)]

    assert await count(client.database) == 200
    lost = [job.id for job in accepted if job.id not in hinted()]
    assert lost[0] == accepted[0].id
    if fault != "hangs up":
        # The breaker: 200 pushes, and only a few tries.
        assert redis.accepted - accepted_before < 10
        assert hinted() == known

    # Later, with Redis back, the steward finds what is missing.
    async with Client.connect(database_url=postgres_of(client), redis_url=carafe_redis_url) as steward:
        async with client.database.connection() as connection:
            await connection.execute("update carafe.jobs set hinted_at = hinted_at - interval '1 minute'")
            await steward.queue.redis.delete("default")
        await Repairer(steward.database, steward.queue).round()
    assert set(hinted()) == {job.id for job in accepted}


def postgres_of(client: Client) -> str:
    return client.database.url


async def test_the_breaker_closes_again(client: Client, redis: Proxy, hinted: Callable[[], list[UUID]]) -> None:
    await redis.refuse()
    await client.enqueue(Greet(name="during"))
    await redis.listen()
    client.queue._closed_until = 0.0  # its pause is over

    accepted = await client.enqueue(Greet(name="after"))

    assert hinted()[-1] == accepted.id


async def test_what_was_open_before_an_outage_is_given_to_nobody(
    carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A connection that was idle has noticed nothing, and its server may be gone without a word.
    database = carafe_client.database

    async def backend() -> int:
        async with database.connection() as connection:
            found: int = await connection.fetchval("select pg_backend_pid()")
            return found

    before = await backend()
    assert await backend() == before

    async def refuses(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as outage:
        outage.setattr(database, "_connect", refuses)
        database.mark_suspect(ConnectionRefusedError())
        await eventually(lambda: database.away)
    await eventually(lambda: not database.away)
    assert await backend() != before


async def test_every_use_of_the_pool_plans_by_index(carafe_database_url: str) -> None:
    # asyncpg resets a connection that is given back: the second use is the one that tells.
    async with Client.from_settings(
        Settings.model_validate({"database_url": carafe_database_url, "redis_url": "redis://127.0.0.1:1/0"})
    ) as client:
        for _ in range(2):
            async with client.database.connection() as connection:
                found = [await connection.fetchval(f"show enable_{way}") for way in ("seqscan", "bitmapscan")]
            assert found == ["off", "off"]
