"""Reading one job, lists of jobs in pages, and the numbers of queues."""

from datetime import UTC, datetime, timedelta

import pytest

from carafe import Client, InvalidOption, JobFilter, JobNotFound, State
from carafe.jobs.identifiers import uuid7
from carafe.readmodel.model import ReadModel
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Add, Fail, Greet


async def test_a_list_comes_in_pages_newest_first_live_and_ended_together(carafe_client: Client, worker: ByHand) -> None:
    jobs = await carafe_client.enqueue_many([Greet(name=str(number)) for number in range(25)])
    ended = []
    for claim in await worker.claim(*(job.id for job in jobs[::3])):
        await worker.succeed(claim)
        ended.append(claim.id)

    found, cursor = [], None
    while True:
        page = await carafe_client.find(limit=10, cursor=cursor)
        found += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break

    # A job that ended is as new as its end, and these ended after the last one was created.
    assert found == [*reversed(ended), *(job.id for job in reversed(jobs) if job.id not in ended)]


async def test_a_list_of_ended_jobs_is_in_the_order_of_their_ends(carafe_client: Client, worker: ByHand) -> None:
    jobs = await carafe_client.enqueue_many([Greet(name=str(number)) for number in range(6)])
    claims = {claim.id: claim for claim in await worker.claim(*(job.id for job in jobs))}
    order = [jobs[index].id for index in (3, 1, 5, 0)]
    for job_id in order:
        await worker.succeed(claims[job_id])

    first = await carafe_client.find(states=[State.SUCCEEDED], limit=3)
    rest = await carafe_client.find(states=[State.SUCCEEDED], limit=3, cursor=first.next_cursor)

    assert [job.id for job in (*first.jobs, *rest.jobs)] == order[::-1]
    assert rest.next_cursor is None
    with pytest.raises(InvalidOption, match="not a cursor of this listing"):
        await carafe_client.find(cursor=first.next_cursor)


async def test_a_list_can_be_narrowed(carafe_client: Client, worker: ByHand) -> None:
    await carafe_client.enqueue_many([Greet(name="1"), Add(a=1, b=2)])
    later = await carafe_client.enqueue(Greet(name="2"), delay=60)
    now = datetime.now(UTC)

    assert [job.id for job in (await carafe_client.find(states=[State.SCHEDULED])).jobs] == [later.id]
    assert len((await carafe_client.find(kind="tests.greet")).jobs) == 2
    assert len((await carafe_client.find(since=now - timedelta(hours=1), until=now + timedelta(hours=1))).jobs) == 3
    assert (await carafe_client.find(until=now - timedelta(hours=1))).jobs == ()
    assert (await carafe_client.find(states=[State.DEAD])).jobs == ()
    by_argument = JobFilter(argument=("name", "2"))
    assert [job.id for job in (await carafe_client.find(by_argument)).jobs] == [later.id]
    assert (await carafe_client.find(by_argument, kind="tests.add")).jobs == ()


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 501}, {"cursor": "nonsense"}, {"cursor": "é"}, {"kind": "a\0b"}]
)
async def test_a_list_refuses_what_it_cannot_do(carafe_client: Client, options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        await carafe_client.find(**options)  # type: ignore[arg-type]


async def test_a_job_shows_its_failed_attempts(carafe_client: Client, worker: ByHand) -> None:
    accepted = await carafe_client.enqueue(Fail())
    [claim] = await worker.claim(accepted.id)
    await worker.fail(claim, error="no luck")

    record = await carafe_client.get(accepted.id)

    [attempt] = record.attempts
    assert (attempt.attempt, attempt.cause, attempt.error_class) == (1, "error", "ValueError")
    assert (attempt.error, attempt.traceback, attempt.worker) == ("no luck", "trace", "by hand")
    assert attempt.started_at is not None
    assert attempt.started_at <= attempt.ended_at
    assert record.state is State.RETRYING
    assert record.due_at > attempt.ended_at


async def test_a_waiting_job_says_why_it_waits(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"))

    assert (await carafe_client.get(accepted.id)).note == ("No workers are alive: start one with `carafe serve --worker`.")


async def test_a_job_that_is_not_there_is_not_found(carafe_client: Client) -> None:
    for call in (carafe_client.get, carafe_client.cancel, carafe_client.retry, carafe_client.wait):
        with pytest.raises(JobNotFound, match="it never existed, or its retention has passed"):
            await call(uuid7())


async def test_waiting_ends_with_the_job_or_the_timeout(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"))
    with pytest.raises(TimeoutError):
        await carafe_client.wait(accepted.id, timeout=timedelta(milliseconds=10))
    await carafe_client.cancel(accepted.id)

    assert (await carafe_client.wait(accepted.id, timeout=5)).state is State.CANCELLED


async def test_queues_are_counted(carafe_client: Client, worker: ByHand) -> None:
    jobs = await carafe_client.enqueue_many([Greet(name=str(number)) for number in range(5)])
    await carafe_client.enqueue(Greet(name="later"), delay=60)
    claims = await worker.claim(*(job.id for job in jobs[:3]))
    await worker.fail(claims[0])
    await worker.fail(claims[1], final=True)

    [queue] = await carafe_client.queues()

    assert (queue.name, queue.queued, queue.running, queue.scheduled, queue.retrying, queue.dead) == (
        "default",
        2,
        1,
        1,
        1,
        1,
    )
    assert queue.oldest_wait
    assert queue.oldest_wait > 0
    assert queue.paused_at is None


CLASSES = (
    "httpx.ConnectError",
    "ConnectError",
    "other.httpx.ConnectError",
    "httpx.MyConnectError",
    "a.Connect_rror",
    "b.Connect%",
)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ConnectError", {"httpx.ConnectError", "ConnectError", "other.httpx.ConnectError"}),
        ("httpx.ConnectError", {"httpx.ConnectError", "other.httpx.ConnectError"}),
        ("MyConnectError", {"httpx.MyConnectError"}),
        ("Connect_rror", {"a.Connect_rror"}),
        ("Connect%", {"b.Connect%"}),
        ("connecterror", set()),
        ("Error", set()),
    ],
)
@pytest.mark.parametrize("state", [State.DEAD, State.RETRYING, None], ids=str)
async def test_an_errors_class_may_be_given_without_its_module(
    carafe_client: Client, worker: ByHand, given: str, meant: set[str], state: State | None
) -> None:
    jobs = await carafe_client.enqueue_many([Greet(name=name) for name in CLASSES])
    for claim, name in zip(await worker.claim(*(job.id for job in jobs)), CLASSES, strict=True):
        await worker.fail(claim, final=state is State.DEAD, error_class=name)
    wanted = JobFilter(error_class=given, states=frozenset() if state is None else frozenset({state}))

    found = (await carafe_client.find(wanted)).jobs

    assert {job.error_class for job in found} == meant
    assert (await ReadModel(carafe_client.database).matching(wanted)).number == len(meant) == len(found)
