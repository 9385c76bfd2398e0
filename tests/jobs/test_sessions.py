"""Enqueueing within the caller's own transaction: SQLAlchemy's AsyncSession and Session, whatever the driver."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from carafe import Client, IdempotencyConflict, InvalidOption, JobNotFound, NewJob, SyncClient
from carafe.client import sessions
from tests.jobs.kinds import Greet
from tests.waiting import eventually

Hinted = Callable[[], list[UUID]]


@pytest.fixture(params=["asyncpg", "psycopg"])
async def engine(request: pytest.FixtureRequest, carafe_database_url: str) -> AsyncIterator[AsyncEngine]:
    """The caller's own engine, on either driver."""
    engine = create_async_engine(carafe_database_url.replace("postgresql://", f"postgresql+{request.param}://"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def plain_session(carafe_database_url: str) -> Iterator[Session]:
    """A synchronous session."""
    engine = create_engine(carafe_database_url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        yield session
    engine.dispose()


async def test_the_job_is_part_of_the_transaction_and_hinted_after_its_commit(
    carafe_client: Client, session: AsyncSession, hinted: Hinted
) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"), session=session)

    with pytest.raises(JobNotFound):
        await carafe_client.get(accepted.id)
    assert hinted() == []

    await session.commit()

    assert (await carafe_client.get(accepted.id)).args == {"name": "Ada"}
    assert hinted() == [accepted.id]


async def test_a_rollback_leaves_neither_job_nor_hint(carafe_client: Client, session: AsyncSession, hinted: Hinted) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"), session=session)
    await session.rollback()
    await session.execute(text("select 1"))
    await session.commit()

    with pytest.raises(JobNotFound):
        await carafe_client.get(accepted.id)
    assert hinted() == []


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_with_it(
    carafe_client: Client, session: AsyncSession, hinted: Hinted
) -> None:
    before = await carafe_client.enqueue(Greet(name="before"), session=session)
    savepoint = await session.begin_nested()
    lost = await carafe_client.enqueue(Greet(name="lost"), session=session)
    async with session.begin_nested():
        inner = await carafe_client.enqueue(Greet(name="inner"), session=session)
    await savepoint.rollback()
    async with session.begin_nested():
        kept = await carafe_client.enqueue(Greet(name="kept"), session=session)
    assert hinted() == []
    await session.commit()

    assert hinted() == [before.id, kept.id]
    for job_id in (lost.id, inner.id):
        with pytest.raises(JobNotFound):
            await carafe_client.get(job_id)


async def test_a_session_can_enqueue_several_times_and_be_used_again(
    carafe_client: Client, session: AsyncSession, hinted: Hinted
) -> None:
    first = await carafe_client.enqueue(Greet(name="1"), session=session)
    bulk = await carafe_client.enqueue_many([Greet(name="2"), Greet(name="3")], session=session)
    await session.commit()
    later = await carafe_client.enqueue(Greet(name="4"), session=session)
    await session.commit()

    assert hinted() == [first.id, *(job.id for job in bulk), later.id]


async def test_an_object_and_its_job_are_one_commit(carafe_client: Client, session: AsyncSession) -> None:
    await session.execute(text("create table reports (id int primary key, job_id uuid)"))
    await session.commit()
    async with session.begin():
        accepted = await carafe_client.enqueue(Greet(name="Ada"), session=session)
        await session.execute(text("insert into reports values (1, :job)"), {"job": accepted.id})
    lost = await carafe_client.enqueue(Greet(name="Ada"), session=session)
    with pytest.raises(IntegrityError, match="reports_pkey"):
        await session.execute(text("insert into reports values (1, :job)"), {"job": lost.id})
    await session.rollback()

    assert (await carafe_client.get(accepted.id)).id == accepted.id
    with pytest.raises(JobNotFound):
        await carafe_client.get(lost.id)


async def test_unique_and_idempotency_keys_work_in_a_session(
    carafe_client: Client, session: AsyncSession, hinted: Hinted
) -> None:
    outside = await carafe_client.enqueue(Greet(name="Ada"), unique_key="u")
    inside = await carafe_client.enqueue(Greet(name="Ada"), unique_key="u", session=session)
    new = await carafe_client.enqueue_many(
        [NewJob(Greet(name="a"), unique_key="v"), NewJob(Greet(name="b"), delay=5)], idempotency_key="i", session=session
    )
    await session.commit()

    again = await carafe_client.enqueue_many(
        [NewJob(Greet(name="a"), unique_key="v"), NewJob(Greet(name="b"), delay=5)], idempotency_key="i", session=session
    )
    assert (inside.id, inside.existing) == (outside.id, True)
    assert [answer.id for answer in again] == [answer.id for answer in new]
    with pytest.raises(IdempotencyConflict):
        await carafe_client.enqueue(Greet(name="a"), idempotency_key="i", session=session)
    assert hinted() == [outside.id, new[0].id]


async def test_an_async_client_takes_a_plain_session_too(
    carafe_client: Client, plain_session: Session, hinted: Hinted
) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"), session=plain_session)
    lost = await carafe_client.enqueue(Greet(name="lost"), session=plain_session)
    assert hinted() == []
    plain_session.rollback()
    accepted = await carafe_client.enqueue(Greet(name="Ada"), session=plain_session)
    plain_session.commit()

    await eventually(lambda: hinted() == [accepted.id])
    assert lost.id != accepted.id


async def test_a_plain_session_may_commit_in_another_thread(
    carafe_client: Client, plain_session: Session, hinted: Hinted
) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"), session=plain_session)

    await asyncio.to_thread(plain_session.commit)

    await eventually(lambda: hinted() == [accepted.id])


def test_a_synchronous_client_enqueues_in_the_callers_transaction(
    carafe_sync_client: SyncClient, plain_session: Session, hinted: Hinted
) -> None:
    accepted = carafe_sync_client.enqueue(Greet(name="Ada"), session=plain_session)
    assert hinted() == []
    plain_session.commit()
    assert hinted() == [accepted.id]

    with plain_session.begin_nested() as savepoint:
        carafe_sync_client.enqueue(Greet(name="lost"), session=plain_session)
        savepoint.rollback()
    carafe_sync_client.enqueue_many([Greet(name="lost too")], session=plain_session)
    plain_session.rollback()

    assert hinted() == [accepted.id]
    assert [job.id for job in carafe_sync_client.find().jobs] == [accepted.id]


async def test_scoped_sessions_stand_for_their_current_session(
    carafe_client: Client, engine: AsyncEngine, plain_session: Session, hinted: Hinted
) -> None:
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    first = await carafe_client.enqueue(Greet(name="1"), session=scoped)
    assert hinted() == []
    await scoped.commit()
    assert hinted() == [first.id]
    await scoped.close()

    plain = scoped_session(sessionmaker(plain_session.get_bind()))
    second = await carafe_client.enqueue(Greet(name="2"), session=plain)
    plain.commit()
    await eventually(lambda: hinted() == [first.id, second.id])
    plain.remove()


def test_a_synchronous_client_takes_a_scoped_session(
    carafe_sync_client: SyncClient, plain_session: Session, hinted: Hinted
) -> None:
    scoped = scoped_session(sessionmaker(plain_session.get_bind()))
    carafe_sync_client.enqueue(Greet(name="lost"), session=scoped)
    scoped.rollback()
    kept = carafe_sync_client.enqueue_many([Greet(name="kept")], session=scoped)
    scoped.commit()

    assert hinted() == [kept[0].id]
    scoped.remove()


async def test_what_is_no_session_is_refused_before_anything_is_stored(
    carafe_client: Client, engine: AsyncEngine, plain_session: Session
) -> None:
    plain_engine: Any = plain_session.get_bind()
    async with engine.begin() as connection:
        with plain_engine.begin() as plain_connection:
            for wrong, words in (
                (connection, "cannot be a connection.*use an AsyncSession"),
                (plain_connection, "cannot be a connection.*use a Session"),
                (engine, "must be a SQLAlchemy AsyncSession or Session, or a scoped one .got .*AsyncEngine"),
                (async_sessionmaker(engine), "must be .*got .*async_sessionmaker"),
                (5, "must be .*got int"),
            ):
                with pytest.raises(InvalidOption, match=f"session: {words}"):
                    await carafe_client.enqueue(Greet(name="lost"), session=wrong)  # type: ignore[arg-type]

    assert not (await carafe_client.find()).jobs


def test_a_synchronous_client_refuses_a_session_that_must_be_awaited(carafe_sync_client: SyncClient) -> None:
    with pytest.raises(InvalidOption, match="session: must be a Session: a SyncClient cannot await an AsyncSession"):
        carafe_sync_client.enqueue(Greet(name="lost"), session=AsyncSession())  # type: ignore[arg-type]


async def test_a_session_that_is_closed_without_a_commit_forgets_its_jobs(
    carafe_client: Client, session: AsyncSession, hinted: Hinted, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: dict[str, int] = {}
    monkeypatch.setattr(sessions, "count_accepted", counted.update)
    await carafe_client.enqueue(Greet(name="lost"), session=session)
    async with session.begin_nested():
        await carafe_client.enqueue(Greet(name="lost too"), session=session)
    await session.close()
    kept = await carafe_client.enqueue(Greet(name="kept"), session=session)
    async with session.begin_nested(), session.begin_nested():
        inner = await carafe_client.enqueue(Greet(name="inner"), session=session)
    await session.commit()

    assert hinted() == [kept.id, inner.id]
    assert counted == {"tests.greet": 2}
