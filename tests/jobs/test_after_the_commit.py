"""A failure after a commit does not make the call fail, and a commit whose outcome is unknown is not reported as "nothing
was stored"."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from carafe import Client, OutcomeUnknown, State
from carafe.queue.queue import Queue
from carafe.store.audit import Actor
from carafe.store.database import CONFLICTS, retried
from carafe.store.filters import JobFilter
from carafe.web.transactions import transaction
from tests.jobs.by_hand import ByHand, row_of
from tests.jobs.kinds import Greet
from tests.proxy import Proxy, proxy_to
from tests.waiting import eventually

OPS = Actor("ops", "api")


class BrokenQueue(Queue):
    """Fails in a way that is unexpected, wherever it is used."""

    async def push(self, hints: Any) -> bool:
        raise RuntimeError("a fault of ours")

    async def empty(self) -> str | None:
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
    "start a bulk": lambda client, job: client.start_bulk("cancel", JobFilter(), by=OPS),
    "edit": lambda client, job: client.edit_and_run(job.id, {"name": "edited"}, by=OPS),
}


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


async def test_what_is_lost_before_the_commit_of_a_bulk_action_is_not_called_unknown(
    proxy: Proxy, carafe_redis_url: str, carafe_modules: None
) -> None:
    """It is one transaction with one commit: no savepoint within is taken for that."""
    async with Client.connect(database_url=proxy.url, redis_url=carafe_redis_url, pool_size=1) as client:
        job = await client.enqueue(Greet(name="one"))
        proxy.cut_at(b"RELEASE", "after")
        bulk = await client.start_bulk("cancel", JobFilter(ids=(job.id,)), by=OPS)
        assert (await client.pause_bulk(bulk.id, by=OPS)).state == "paused"
        assert not proxy.cut.is_set()


THEIRS = (
    "insert into carafe.jobs (id, kind, state, args, version, max_attempts, timeout, unique_key, created_at, due_at)"
    " select gen_random_uuid(), kind, state, args, 1, 1, 60, 'k', now(), now() from carafe.jobs"
)
TRANSACTIONS: dict[str, tuple[str, Act]] = {
    "cancel": ("update carafe.jobs set progress = 0.5", lambda client, job: client.cancel(job.id, by=OPS)),
    "pause": ("update carafe.queues set paused_reason = 'theirs'", lambda client, job: client.pause(by=OPS)),
    "enqueue": (THEIRS, lambda client, job: client.enqueue(Greet(name="two"), unique_key="k", by=OPS)),
}
"""What another has changed and not committed, and an action that waits for that commit, which comes too late for it."""


@pytest.mark.parametrize("what", TRANSACTIONS)
async def test_a_conflict_is_tried_again(
    carafe_database_url: str, carafe_redis_url: str, carafe_modules: None, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    conflicts: list[BaseException] = []

    async def watched(work: Callable[[], Awaitable[Any]], *pause: Any) -> Any:
        async def once() -> Any:
            try:
                return await work()
            except CONFLICTS as error:
                conflicts.append(error)
                raise

        return await retried(once, *pause)

    for module in ("client.client", "store.actions"):
        monkeypatch.setattr(f"carafe.{module}.retried", watched)
    theirs, act = TRANSACTIONS[what]
    url = f"{carafe_database_url}?options=-c%20default_transaction_isolation%3Dserializable"
    async with Client.connect(database_url=url, redis_url=carafe_redis_url) as client:
        job = await client.enqueue(Greet(name="one"))
        await client.pause()
        await client.resume()
        other = await asyncpg.connect(carafe_database_url)
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute(theirs)
            acting: asyncio.Future[Any] = asyncio.ensure_future(act(client, job))

            async def waits_for_it() -> bool:
                async with client.database.connection() as connection:
                    waiting = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))"
                    return bool(await connection.fetchval(waiting, other.get_server_pid()))

            await eventually(waits_for_it)
            await transaction.commit()
            answer = await acting
        finally:
            await other.close()
        # Postgres has let it fail, and the caller hears nothing of that.
        assert [type(error) for error in conflicts] == [asyncpg.SerializationError]
        match what:
            case "cancel":
                assert (await row_of(client.database, job.id))["state"] == "cancelled"
            case "pause":
                assert answer.paused_at is not None
            case _:
                assert answer.existing
