"""One job for a request that is sent twice, one job for a thing, one effect for a job."""

import pytest
from sqlalchemy import text

from carafe import Client, Context, IdempotencyConflict, Job, State, handler, testing


class Charge(Job, kind="tutorial.charge"):
    invoice: int
    cents: int


@handler(Charge)
async def charge(job: Charge, ctx: Context) -> str:
    return f"charged {job.cents} for invoice {job.invoice}"


# An idempotency key is about a request. When you do not know whether the first one arrived (the connection was lost, say),
# send it again with the same key.


async def test_a_request_that_is_repeated_is_one_job(carafe_client: Client) -> None:
    first = await carafe_client.enqueue(Charge(invoice=7, cents=100), idempotency_key="request-1")
    again = await carafe_client.enqueue(Charge(invoice=7, cents=100), idempotency_key="request-1")

    assert again.id == first.id
    assert again.replayed

    # The same key with another body is a mistake of the caller, and is refused.
    with pytest.raises(IdempotencyConflict):
        await carafe_client.enqueue(Charge(invoice=7, cents=999), idempotency_key="request-1")


# A unique key is about a thing. At most one job that has not ended yet holds it.


async def test_at_most_one_live_job_holds_a_unique_key(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        first = await carafe_client.enqueue(Charge(invoice=7, cents=100), unique_key="invoice:7")
        second = await carafe_client.enqueue(Charge(invoice=7, cents=100), unique_key="invoice:7")
        assert second.id == first.id
        assert second.existing

        # When the job has ended, the key is free.
        await jobs.drain()
        third = await carafe_client.enqueue(Charge(invoice=7, cents=100), unique_key="invoice:7")
        assert third.id != first.id


# A handler may run more than once: its worker can be killed after the effect and before the end was written. An effect in
# the same Postgres is exactly once when it is written in `ctx.transaction()`: it and the end of the job are one commit.


class Book(Job, kind="tutorial.book", max_retries=0):
    invoice: int
    fails: bool = False


@handler(Book)
async def book(job: Book, ctx: Context) -> None:
    async with ctx.transaction() as session:
        await session.execute(text("insert into bookings (invoice) values (:invoice)"), {"invoice": job.invoice})
        if job.fails:
            raise RuntimeError("after the insert")
        ctx.result = {"booked": job.invoice}


async def bookings(client: Client) -> list[int]:
    async with client.database.sessions()() as session:
        return list((await session.execute(text("select invoice from bookings order by invoice"))).scalars())


@pytest.fixture
async def with_bookings(carafe_client: Client) -> Client:
    async with carafe_client.database.sessions()() as session:
        await session.execute(text("create table bookings (invoice int not null)"))
        await session.commit()
    return carafe_client


async def test_an_effect_and_the_end_of_its_job_are_one_commit(with_bookings: Client) -> None:
    async with testing.inline(with_bookings):
        good = await with_bookings.enqueue(Book(invoice=1))
        bad = await with_bookings.enqueue(Book(invoice=2, fails=True))

    assert (await with_bookings.get(good.id)).result == {"booked": 1}
    # The job that failed after its insert has left no row.
    assert (await with_bookings.get(bad.id)).state is State.DEAD
    assert await bookings(with_bookings) == [1]
