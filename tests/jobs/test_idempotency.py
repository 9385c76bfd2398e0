"""Idempotency keys: a request that is sent twice enqueues one job."""

import asyncio

import pytest

from carafe import Client, IdempotencyConflict
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
