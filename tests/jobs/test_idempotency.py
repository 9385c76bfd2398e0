"""Idempotency keys: a request that is sent twice enqueues one job."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from carafe import Client, IdempotencyConflict, InvalidOption, uuid_for
from tests.jobs.by_hand import ByHand, count
from tests.jobs.kinds import Greet


async def test_a_repeated_request_gets_the_first_answer(carafe_client: Client, worker: ByHand) -> None:
    first = await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k")
    [claim] = await worker.claim(first.id)
    await worker.succeed(claim)

    again = await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k")

    assert (again.id, again.replayed) == (first.id, True)
    assert not first.replayed
    assert await count(carafe_client.database) == 0


async def test_of_fifty_concurrent_repeats_one_makes_the_job(carafe_client: Client) -> None:
    answers = await asyncio.gather(*(carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k") for _ in range(50)))

    assert len({answer.id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 49
    assert await count(carafe_client.database) == 1


async def test_of_repeats_in_sessions_of_ones_own_one_stores_row_and_job(
    carafe_client: Client, carafe_database_url: str
) -> None:
    engine = create_async_engine(carafe_database_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(text("create table orders (id uuid primary key, job_id uuid)"))

    async def order(key: str) -> tuple[UUID, bool]:
        """What an application does with a request that has a key."""
        order_id = uuid_for(key, scope="ana")
        async with AsyncSession(engine) as session, session.begin():
            job = await carafe_client.enqueue(Greet(name=str(order_id)), session=session, idempotency_key=key, scope="ana")
            if not job.replayed:
                insert = text("insert into orders (id, job_id) values (:id, :job_id)")
                await session.execute(insert, {"id": order_id, "job_id": job.id})
            return job.id, job.replayed

    answers = await asyncio.gather(*(order("k") for _ in range(10)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 9
    async with engine.begin() as connection:
        rows = [tuple(row) for row in await connection.execute(text("select id, job_id from orders"))]
    assert rows == [(uuid_for("k", scope="ana"), answers[0][0])]
    assert await count(carafe_client.database) == 1
    await engine.dispose()


def test_the_id_of_a_key_is_the_same_everywhere_and_no_other_keys() -> None:
    assert uuid_for("k", scope="ana") == UUID("51a86fe1-c1a8-5373-bfa7-9e641dba1ffd")
    ids = {uuid_for(key, scope=scope) for key in ("k", "j", 'k"]') for scope in ("", "ana", "k")}
    assert len(ids) == 9
    assert {found.version for found in ids} == {5}
    for wrong in ("", "a\nb", 7):
        with pytest.raises(InvalidOption, match="key: must be "):
            uuid_for(wrong)  # type: ignore[arg-type]


async def test_a_key_is_refused_for_another_request(carafe_client: Client) -> None:
    await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k")

    with pytest.raises(IdempotencyConflict, match="'k' was used before with another body"):
        await carafe_client.enqueue(Greet(name="Grace"), idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k", delay=60)

    assert await count(carafe_client.database) == 1


async def test_keys_of_different_scopes_are_different_keys(carafe_client: Client) -> None:
    first = await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k", scope="alice")
    second = await carafe_client.enqueue(Greet(name="Grace"), idempotency_key="k", scope="bob")

    assert first.id != second.id


async def test_an_expired_key_is_a_new_key(carafe_client: Client) -> None:
    first = await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k")
    async with carafe_client.database.connection() as connection:
        await connection.execute("update carafe.idempotency_keys set expires_at = now()")

    second = await carafe_client.enqueue(Greet(name="Grace"), idempotency_key="k")

    assert second.id != first.id
    assert not second.replayed
    assert (await carafe_client.enqueue(Greet(name="Grace"), idempotency_key="k")).id == second.id


async def test_a_bulk_is_one_request(carafe_client: Client) -> None:
    jobs = [Greet(name=str(number)) for number in range(20)]
    first = await carafe_client.enqueue_many(jobs, idempotency_key="bulk")

    again = await carafe_client.enqueue_many(jobs, idempotency_key="bulk")

    assert [answer.id for answer in again] == [answer.id for answer in first]
    assert all(answer.replayed for answer in again)
    with pytest.raises(IdempotencyConflict):
        await carafe_client.enqueue_many(jobs[:-1], idempotency_key="bulk")


async def test_a_refused_request_leaves_its_key_free(carafe_client: Client) -> None:
    with pytest.raises(Exception, match="NUL"):
        await carafe_client.enqueue(Greet(name="\0"), idempotency_key="k")

    assert not (await carafe_client.enqueue(Greet(name="Ada"), idempotency_key="k")).replayed
