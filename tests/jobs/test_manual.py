"""Manual mode of testing: no job runs by itself; make assertions about the enqueued jobs, then drain."""

from collections.abc import Callable
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Client, Context, Job, State, SyncClient, handler, testing
from carafe.testing.executor import NoHandler
from tests.jobs.by_hand import make_due
from tests.jobs.kinds import Add, Fail, Greet, Login, Say, Unhandled


async def test_nothing_runs_and_nothing_is_pushed(carafe_client: Client, hinted: Callable[[], list[UUID]]) -> None:
    async with testing.manual(carafe_client) as jobs:
        accepted = await carafe_client.enqueue(Greet(name="Ada"))
        jobs.assert_enqueued(Greet)

    assert (await carafe_client.get(accepted.id)).state is State.QUEUED
    assert hinted() == []


async def test_assertions_look_at_class_arguments_and_count(carafe_client: Client) -> None:
    await carafe_client.enqueue(Greet(name="before"))
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue_many([Greet(name="Ada"), Greet(name="Grace"), Add(a=1, b=2)])
        await carafe_client.enqueue(Login(user="ada", password=SecretStr("x")))

        jobs.assert_enqueued(Greet, count=2)
        jobs.assert_enqueued(Greet, count=1, name="Ada")
        jobs.assert_enqueued(Add(a=1, b=2), count=1)
        jobs.assert_enqueued(Login, password="x")
        jobs.assert_not_enqueued(Greet, name="before")
        jobs.assert_not_enqueued(Login, password="y")
        jobs.assert_not_enqueued(Unhandled)
        [found] = jobs.assert_enqueued(Greet, name="Grace")
        assert (found.job, found.state, found.unique_key) == (Greet(name="Grace"), "queued", None)


async def test_a_failed_assertion_shows_the_difference(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        with pytest.raises(AssertionError, match="nothing was enqueued"):
            jobs.assert_enqueued(Add)
        add = await carafe_client.enqueue(Add(a=1, b=2))
        greet = await carafe_client.enqueue(Greet(name="Ada"), delay=60)

        with pytest.raises(AssertionError) as raised:
            jobs.assert_enqueued(Add, count=1, a=1, b=3)
        assert str(raised.value).splitlines() == [
            "expected 1 job 'tests.add' with a=1, b=3, found 0",
            f"  tests.add {add.id} (queued)",
            "  - b=3",
            "  + b=2",
            f"  tests.greet {greet.id} (scheduled)",
        ]
        with pytest.raises(AssertionError, match=r"expected 0 jobs 'tests.add', found 1"):
            jobs.assert_not_enqueued(Add)
        with pytest.raises(TypeError, match="Add has no argument c; it has: a, b"):
            jobs.assert_enqueued(Add, c=1)


async def test_a_failed_assertion_shows_no_secret(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Login(user="ada", password=SecretStr("hunter2")))
        with pytest.raises(AssertionError) as raised:
            jobs.assert_enqueued(Login, password=SecretStr("other"))

    assert "hunter2" not in str(raised.value)
    assert "- password=SecretStr('**********')" in str(raised.value)


async def test_nor_is_a_secret_that_was_expected_in_plain_text(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        with pytest.raises(AssertionError) as nothing:
            jobs.assert_enqueued(Login, user="ada", password="hunter2", tokens=("hunter2",))
        await carafe_client.enqueue(Login(user="eve", password=SecretStr("swordfish"), tokens=(SecretStr("swordfish"),)))
        with pytest.raises(AssertionError) as other:
            jobs.assert_enqueued(Login, user="ada", password="hunter2", tokens=("hunter2",))
    for raised in (nothing, other):
        assert "with user='ada', password=**********, tokens=**********" in str(raised.value)
        assert "hunter2" not in str(raised.value)
        assert "swordfish" not in str(raised.value)
    assert "- password=**********\n" in str(other.value)


async def test_what_is_not_committed_was_not_enqueued(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs, AsyncSession(carafe_client.database.engine) as session:
        await carafe_client.enqueue(Greet(name="Ada"), session=session)
        jobs.assert_not_enqueued(Greet)
        await session.commit()
        jobs.assert_enqueued(Greet)


async def test_drain_runs_what_is_due_and_returns_the_records(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        ids = [job.id for job in await carafe_client.enqueue_many([Greet(name="Ada"), Fail(), Say(what="snooze")])]
        later = await carafe_client.enqueue(Greet(name="later"), delay=60)
        due = await carafe_client.enqueue(Greet(name="due"), delay=60)
        await make_due(carafe_client.database, due.id)

        records = await jobs.drain()

        assert [record.id for record in records] == [*ids, due.id]
        assert [record.state for record in records] == ["succeeded", "retrying", "scheduled", "succeeded"]
        assert (await carafe_client.get(later.id)).state is State.SCHEDULED
        assert await jobs.drain() == []


async def test_drain_can_run_retries_to_their_end(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue_many([Fail(until=2), Fail()])
        recovered, dead = await jobs.drain(with_retries=True)

    assert (recovered.state, recovered.result, len(recovered.attempts)) == (State.SUCCEEDED, "attempt 2", 1)
    assert (dead.state, dead.error) == (State.DEAD, "attempt 3 failed")
    assert [attempt.error for attempt in dead.attempts] == [f"attempt {n} failed" for n in (1, 2, 3)]


async def test_drain_can_run_what_is_scheduled(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Greet(name="later"), delay=60)
        [record] = await jobs.drain(with_scheduled=True)

    assert record.result == "hello later"


async def test_drain_runs_what_jobs_enqueue(carafe_client: Client) -> None:
    class Tree(Job, kind="tests.tree"):
        depth: int

    @handler(Tree)
    async def grow(job: Tree, ctx: Context) -> None:
        if job.depth:
            await carafe_client.enqueue_many([Tree(depth=job.depth - 1)] * 2)

    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Tree(depth=3))
        assert len(await jobs.drain()) == 15


async def test_drain_says_when_nobody_can_run_a_job(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Unhandled())
        with pytest.raises(NoHandler, match=r"no handler for kind 'tests.unhandled'; there are handlers for: .*tests.greet"):
            await jobs.drain()


def test_it_works_for_the_synchronous_client(carafe_sync_client: SyncClient) -> None:
    with testing.manual(carafe_sync_client) as jobs:
        carafe_sync_client.enqueue_many([Greet(name="Ada"), Add(a=1, b=2)])
        jobs.assert_enqueued(Greet, count=1, name="Ada")
        assert [record.result for record in jobs.drain()] == ["hello Ada", 3]
