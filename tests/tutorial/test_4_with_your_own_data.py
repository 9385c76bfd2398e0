"""A job in your transaction, and your rows that follow a job."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Change, Client, Context, Discard, Job, State, handler, hook, testing


class Ship(Job, kind="tutorial.ship"):
    order: int
    to: str


@handler(Ship)
async def ship(job: Ship, ctx: Context) -> None:
    if not job.to:
        raise Discard("no address")


# A hook runs in the transaction that changes the job's state, no matter who changes it. It belongs beside the job's class,
# where web and worker both import it.


@hook(Ship, State.SUCCEEDED, State.DEAD)
async def order_follows(session: AsyncSession, change: Change) -> None:
    await session.execute(
        text("update orders set status = :status where id = :id"),
        {"status": change.state.value, "id": change.arguments["order"]},
    )


@pytest.fixture
async def shop(carafe_client: Client) -> Client:
    """A client whose database has a table of the application's own."""
    async with carafe_client.database.sessions()() as session:
        await session.execute(text("create table orders (id int primary key, status text not null)"))
        await session.commit()
    return carafe_client


async def status(client: Client, order: int) -> str | None:
    async with client.database.sessions()() as session:
        found = await session.execute(text("select status from orders where id = :id"), {"id": order})
        value: str | None = found.scalar_one_or_none()
        return value


async def place(client: Client, session: AsyncSession, order: int, to: str) -> None:
    """An order and its job, in one transaction. Any SQLAlchemy session will do, whatever its driver."""
    await session.execute(text("insert into orders values (:id, 'placed')"), {"id": order})
    await client.enqueue(Ship(order=order, to=to), session=session)


async def test_a_job_is_part_of_your_transaction(shop: Client) -> None:
    async with testing.manual(shop) as jobs:
        async with shop.database.sessions()() as session:
            await place(shop, session, 1, "Bergen")
            await session.commit()
        jobs.assert_enqueued(Ship, count=1, order=1)


async def test_a_rollback_leaves_neither_row_nor_job(shop: Client) -> None:
    async with testing.manual(shop) as jobs:
        async with shop.database.sessions()() as session:
            await place(shop, session, 1, "Bergen")
            await session.rollback()
        jobs.assert_not_enqueued(Ship)
    assert await status(shop, 1) is None


async def test_your_row_follows_its_job_in_the_same_commit(shop: Client) -> None:
    async with testing.inline(shop):
        for order, to in ((1, "Bergen"), (2, "")):
            async with shop.database.sessions()() as session:
                await place(shop, session, order, to)
                await session.commit()

    assert await status(shop, 1) == "succeeded"
    assert await status(shop, 2) == "dead"
