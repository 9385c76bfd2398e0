"""What comes after a commit never speaks for it; and a commit that is lost is not called "nothing was stored"."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from carafe.jobs import Client, OutcomeUnknown, State
from carafe.jobs.audit import Actor
from carafe.jobs.errors import Unavailable
from carafe.jobs.queue import Queue
from carafe.web.transactions import transaction
from tests.jobs.by_hand import ByHand, row_of
from tests.jobs.kinds import Greet
from tests.proxy import Proxy, proxy_to

OPS = Actor("ops", "api")


class BrokenQueue(Queue):
    """Fails in a way that nobody foresaw, wherever it is used."""

    async def push(self, hints: Any) -> bool:
        raise RuntimeError("a fault of ours")

    async def empty(self) -> bool:
        raise RuntimeError("a fault of ours")

    async def announce_cancel(self) -> None:
        raise RuntimeError("a fault of ours")


async def test_a_hint_or_a_wake_up_that_fails_changes_no_answer(carafe_client: Client, worker: ByHand) -> None:
    client = Client(carafe_client.database, BrokenQueue("redis://127.0.0.1:1"))
    job = await client.enqueue(Greet(name="one"))
    await client.enqueue_many([Greet(name="two"), Greet(name="three")], idempotency_key="k")
    async with transaction(client) as session:
        held = await client.enqueue(Greet(name="four"), session=session)
    assert (await client.get(held.id)).state is State.QUEUED
    later = await client.enqueue(Greet(name="later"), delay=600)
    assert (await client.run_now(later.id)).state is State.QUEUED
    [claim] = await worker.claim(job.id)
    assert (await client.cancel(job.id)).cancel_requested_at is not None
    await worker.fail(claim, final=True)
    assert (await client.cancel(held.id)).state is State.CANCELLED
    dead = await client.enqueue(Greet(name="dead"))
    [claim] = await worker.claim(dead.id)
    await worker.fail(claim, final=True)
    assert (await client.retry(dead.id)).state is State.QUEUED
    assert (await client.pause()).paused_at is not None
    assert (await client.resume()).paused_at is None


async def test_a_queue_is_resumed_although_its_hints_and_counts_are_late(carafe_client: Client) -> None:
    client = carafe_client
    await client.enqueue(Greet(name="waits"))
    await client.pause(by=OPS)
    locker = await asyncpg.connect(client.database.url)
    try:
        async with locker.transaction():
            await locker.execute("lock table carafe.jobs in access exclusive mode")
            record = await client.resume(by=OPS)
            assert (record.name, record.paused_at, record.queued) == ("default", None, None)
        # Resumed, audited, and said so.
        audit = await locker.fetch("select action from carafe.audit order by id")
        assert [row["action"] for row in audit] == ["pause", "resume"]
    finally:
        await locker.close()
    assert (await client.resume()).queued == 1


@pytest.fixture
async def proxy(carafe_database_url: str) -> AsyncIterator[Proxy]:
    async with proxy_to(carafe_database_url) as proxy:
        yield proxy


Act = Callable[[Client, Any], Awaitable[Any]]

ACTIONS: dict[str, Act] = {
    "cancel": lambda client, job: client.cancel(job.id, by=OPS),
    "pause": lambda client, job: client.pause(by=OPS),
    "start a bulk": lambda client, job: client.start_bulk("cancel", _everything(), by=OPS),
    "edit": lambda client, job: client.edit_and_run(job.id, {"name": "edited"}, by=OPS),
}


def _everything() -> Any:
    from carafe.jobs.filters import JobFilter

    return JobFilter()


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_action_whose_commit_is_lost_is_not_known(
    proxy: Proxy, carafe_redis_url: str, carafe_modules: None, action: str
) -> None:
    async with Client.connect(database_url=proxy.url, redis_url=carafe_redis_url, pool_size=1) as client:
        job = await client.enqueue(Greet(name="one"))
        await client.get(job.id)
        proxy.cut_at(b"COMMIT", "after")
        with pytest.raises(OutcomeUnknown, match="not known"):
            await ACTIONS[action](client, job)
        assert proxy.cut.is_set()


async def test_a_conflict_is_tried_again(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> None:
    url = f"{carafe_database_url}?options=-c%20default_transaction_isolation%3Dserializable"
    async with Client.connect(database_url=url, redis_url=carafe_redis_url) as client:
        jobs = [await client.enqueue(Greet(name=str(number)), unique_key=f"k{number}") for number in range(8)]
        answers = await asyncio.gather(
            *(client.cancel(job.id, by=OPS) for job in jobs),
            *(client.enqueue(Greet(name="again"), unique_key=f"k{number}", by=OPS) for number in range(8)),
            return_exceptions=True,
        )
        # Postgres lets some of them fail with 40001: none of these is told to the caller as an error of ours.
        assert not [one for one in answers if isinstance(one, BaseException) and not isinstance(one, Unavailable)], answers
        assert {(await row_of(client.database, job.id))["state"] for job in jobs} <= {"cancelled", "queued"}
