"""A database without the tables of this release, since nobody ran `carafe migrate`: each client says so, with any driver."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from carafe import Client, NotMigrated, SyncClient, Unavailable, uuid7
from carafe.errors import Busy
from carafe.postgres_away import SAYS, words
from carafe.settings.settings import Settings
from carafe.store.database import OLDER_SCHEMA
from carafe.web import create_web_application
from tests.jobs.kinds import Greet

SAID = "the database does not have the tables of this release: run `carafe migrate`; nothing was changed"

OLDER = {
    "no table": "drop table carafe.idempotency_keys cascade; drop table carafe.jobs cascade",
    "no column": "alter table carafe.jobs drop column kind cascade",
    "no schema": "drop schema carafe cascade",
}


@pytest.fixture(params=OLDER)
def older(request: pytest.FixtureRequest, carafe_database_url: str) -> str:
    """The URL of a database of an older release, or of one that was never migrated."""
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute(OLDER[request.param])
    return carafe_database_url


@pytest.fixture
async def client(older: str, carafe_redis_url: str) -> AsyncIterator[Client]:
    async with Client.connect(database_url=older, redis_url=carafe_redis_url) as client:
        yield client


@pytest.fixture
def sync_client(older: str, carafe_redis_url: str) -> Iterator[SyncClient]:
    with SyncClient.connect(database_url=older, redis_url=carafe_redis_url) as client:
        yield client


CALLS: dict[str, Callable[[Any], Any]] = {
    "enqueue": lambda client: client.enqueue(Greet(name="Ada")),
    "enqueue with a key": lambda client: client.enqueue(Greet(name="Ada"), idempotency_key="once"),
    "enqueue_many": lambda client: client.enqueue_many([Greet(name="Ada")] * 2),
    "find": lambda client: client.find(),
    "get": lambda client: client.get(uuid7()),
    "cancel": lambda client: client.cancel(uuid7()),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_client_says_what_to_run(client: Client, call: str) -> None:
    waiting: Coroutine[Any, Any, Any] = CALLS[call](client)
    with pytest.raises(NotMigrated) as raised:
        await waiting
    assert str(raised.value) == SAID
    assert not client.database.away


@pytest.mark.parametrize("call", CALLS)
def test_a_client_without_an_event_loop_says_what_to_run(sync_client: SyncClient, call: str) -> None:
    with pytest.raises(NotMigrated) as raised:
        CALLS[call](sync_client)
    assert str(raised.value) == SAID


async def test_the_connection_is_used_again_after_it(client: Client, older: str) -> None:
    async def process() -> int:
        async with client.database.connection() as connection:
            return int(await connection.fetchval("select pg_backend_pid()"))

    before = await process()
    with pytest.raises(NotMigrated):
        await client.enqueue(Greet(name="Ada"))
    assert await process() == before


async def test_in_a_session_of_the_callers_own_it_says_so_too(client: Client, older: str) -> None:
    engine = create_async_engine(older.replace("postgresql:", "postgresql+asyncpg:", 1))
    async with AsyncSession(engine) as session:
        with pytest.raises(NotMigrated, match="run `carafe migrate`"):
            await client.enqueue(Greet(name="Ada"), session=session)
    await engine.dispose()


def test_on_a_connection_of_the_callers_own_it_says_so_too(sync_client: SyncClient, older: str) -> None:
    engine = create_engine(older.replace("postgresql:", "postgresql+psycopg:", 1))
    with Session(engine) as session, pytest.raises(NotMigrated, match="run `carafe migrate`"):
        sync_client.enqueue(Greet(name="Ada"), session=session)
    engine.dispose()
    with psycopg.connect(older) as connection:
        with pytest.raises(NotMigrated, match="run `carafe migrate`") as raised:
            sync_client.enqueue(Greet(name="Ada"), connection=connection)
        assert isinstance(raised.value.__cause__, psycopg.Error)
        connection.rollback()


class Base(DeclarativeBase):
    pass


class Order(Base):
    """An application's own, whose table nobody made."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_table_of_the_application_that_is_missing_is_the_applications_fault(
    carafe_sync_client: SyncClient, carafe_database_url: str
) -> None:
    engine = create_engine(carafe_database_url.replace("postgresql:", "postgresql+psycopg:", 1))
    with Session(engine) as session:
        session.add(Order(id=1))
        with pytest.raises(ProgrammingError, match="orders"):
            carafe_sync_client.enqueue(Greet(name="Ada"), session=session)  # which flushes the order first
    engine.dispose()


async def test_the_http_api_answers_503_with_these_words(older: str, carafe_redis_url: str) -> None:
    given = {"database_url": older, "redis_url": carafe_redis_url, "job_modules": "tests.jobs.kinds", "steward": False}
    application: FastAPI = create_web_application(Settings.model_validate(given), title="tests")
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://127.0.0.1") as http,
    ):
        answer = await http.post("/api/v1/jobs", json={"kind": Greet.job_options.kind, "args": {"name": "Ada"}})
        health = await http.get("/health")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/not-migrated")
    assert answer.json()["detail"] == SAID
    assert answer.headers["Retry-After"] == "5"
    assert health.status_code == 503
    assert "run `carafe migrate`" in health.json()["checks"]["postgres"]["reason"]


@pytest.mark.parametrize("kind", OLDER_SCHEMA)
def test_each_of_postgres_errors_has_these_words(kind: type[Exception]) -> None:
    assert SAYS[kind.__name__] == words(NotMigrated(kind("x")))
    assert isinstance(NotMigrated(kind("x")), Unavailable)
    assert not isinstance(NotMigrated(kind("x")), Busy)
