"""Testing inline: a job runs as soon as its enqueue has committed."""

import contextlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from carafe import Client, Context, Discard, Job, JobNotFound, State, SyncClient, handler, testing
from tests.jobs.kinds import Add, Fail, Greet, Note, Say, Stall, Unhandled


class Chain(Job, kind="tests.chain"):
    """Enqueues the next link."""

    links: int


class Book(Job, kind="tests.book", max_retries=0):
    """Ends in a transaction, and says `what` in it or after it."""

    what: str


@handler(Book)
async def book(job: Book, ctx: Context) -> object:
    """Succeeds in its transaction unless it raises there."""
    ctx.result = "before"
    async with ctx.transaction():
        ctx.result = {"booked": 1}
        match job.what:
            case "raises Discard inside":
                raise Discard("no room")
            case "returns Discard inside":
                return Discard("no room")
    match job.what:
        case "fails after it":
            raise LookupError("no room")
        case "returns Discard after it":
            return Discard("no room")
        case "returns a value after it":
            return {"booked": 2}
        case "sets the result after it":
            ctx.result = {"booked": 3}
        case "returns the result after it":
            return {"booked": 1}
    return None


class Weigh(Job, kind="tests.weigh", max_retries=0):
    """Sets its result."""

    returns: int | None = None
    undone: bool = False


@handler(Weigh)
async def weigh(job: Weigh, ctx: Context) -> int | None:
    """A result without a transaction, or after one that was rolled back."""
    ctx.result = 1
    if job.undone:
        with contextlib.suppress(LookupError):
            async with ctx.transaction():
                ctx.result = 3
                raise LookupError
    return job.returns


chained: list[Client] = []


@handler(Chain)
async def chain(job: Chain, ctx: Context) -> None:
    """The next link, by the test's own client."""
    if job.links:
        await chained[0].enqueue(Chain(links=job.links - 1))


async def test_enqueue_runs_the_job(carafe_client: Client, hinted: Callable[[], list[UUID]]) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Greet(name="Ada"))
        bulk = await carafe_client.enqueue_many([Add(a=1, b=2), Add(a=3, b=4)])

        assert accepted.state is State.QUEUED  # the answer is that of production
        record = await carafe_client.get(accepted.id)
        assert (record.state, record.result, record.attempt) == (State.SUCCEEDED, "hello Ada", 1)
        assert [(await carafe_client.get(job.id)).result for job in bulk] == [3, 7]
    assert hinted() == []

    after = await carafe_client.enqueue(Greet(name="Grace"))
    assert (await carafe_client.get(after.id)).state is State.QUEUED
    assert hinted() == [after.id]


@pytest.mark.parametrize(
    ("job", "state", "cause"),
    [
        (Fail(), State.RETRYING, "error"),
        (Stall(), State.DEAD, "timeout"),
        (Say(what="retry"), State.RETRYING, "error"),
        (Say(what="snooze"), State.SCHEDULED, None),
        (Say(what="discard"), State.DEAD, "discarded"),
        (Say(what="cancel"), State.CANCELLED, None),
    ],
)
async def test_what_a_handler_does_is_in_the_record(
    carafe_client: Client, job: Job, state: State, cause: str | None
) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(job)

    record = await carafe_client.get(accepted.id)
    assert record.state is state
    assert [attempt.cause for attempt in record.attempts] == ([cause] if cause else [])


async def test_a_job_in_a_session_runs_after_its_commit(carafe_client: Client) -> None:
    async with testing.inline(carafe_client), AsyncSession(carafe_client.database.engine) as session:
        accepted = await carafe_client.enqueue(Greet(name="Ada"), session=session)
        with pytest.raises(JobNotFound):
            await carafe_client.get(accepted.id)
        await session.commit()
        assert (await carafe_client.get(accepted.id)).state is State.SUCCEEDED

        lost = await carafe_client.enqueue(Greet(name="lost"), session=session)
        await session.rollback()
        with pytest.raises(JobNotFound):
            await carafe_client.get(lost.id)


async def test_an_async_client_with_a_plain_session_runs_it_too(carafe_client: Client, carafe_database_url: str) -> None:
    engine = create_engine(carafe_database_url.replace("postgresql://", "postgresql+psycopg://"))
    async with testing.inline(carafe_client):
        with Session(engine) as session:
            accepted = await carafe_client.enqueue(Greet(name="Ada"), session=session)
            session.commit()
        record = await carafe_client.wait(accepted.id, timeout=10)
    engine.dispose()

    assert record.result == "hello Ada"


async def test_a_job_that_enqueues_runs_what_it_enqueues(carafe_client: Client) -> None:
    chained[:] = [carafe_client]
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Chain(links=4))

    page = await carafe_client.find(kind="tests.chain")
    assert [job.state for job in page.jobs] == [State.SUCCEEDED] * 5


async def test_a_job_that_ends_in_its_own_transaction_does_so_here(carafe_client: Client) -> None:
    ids = [uuid4(), uuid4()]
    async with carafe_client.database.sessions()() as session, session.begin():
        await session.execute(text("create table notes (id uuid primary key)"))
    async with testing.inline(carafe_client):
        kept = await carafe_client.enqueue(Note(id=ids[0]))
        lost = await carafe_client.enqueue(Note(id=ids[1], fails=True))

    async with carafe_client.database.sessions()() as session:
        assert (await session.scalars(text("select id from notes"))).all() == [ids[0]]
    assert (await carafe_client.get(kept.id)).result == "noted"
    assert (await carafe_client.get(lost.id)).state is State.DEAD


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("says nothing", None),
        ("returns the result after it", None),
        ("returns Discard inside", "it asked for carafe.jobs.outcomes.Discard: raise that inside the block"),
        ("returns Discard after it", "it asked for carafe.jobs.outcomes.Discard: raise that inside the block"),
        ("fails after it", "it failed with LookupError: no room: raise that inside the block"),
        ("returns a value after it", "it returned a value that is not the job's result: set ctx.result before"),
        ("sets the result after it", "it set ctx.result after the block: set ctx.result before"),
    ],
)
async def test_what_a_handler_says_after_its_commit_is_logged(carafe_client: Client, what: str, words: str | None) -> None:
    with capture_logs() as lines:
        async with testing.inline(carafe_client):
            accepted = await carafe_client.enqueue(Book(what=what))

    record = await carafe_client.get(accepted.id)
    assert (record.state, record.result) == (State.SUCCEEDED, {"booked": 1})
    told = [line for line in lines if line["event"] == "too late: ctx.transaction() has already ended the job"]
    assert len(told) == (words is not None)
    if words is not None:
        assert told[0]["what"].startswith(words)
        assert (told[0]["log_level"], told[0]["job_id"], told[0]["kind"]) == ("warning", str(accepted.id), "tests.book")


async def test_an_outcome_that_is_raised_in_the_transaction_undoes_it(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Book(what="raises Discard inside"))

    record = await carafe_client.get(accepted.id)
    assert (record.state, record.error, record.result) == (State.DEAD, "no room", None)


async def test_the_result_of_the_context_counts_where_nothing_is_returned(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        jobs = await carafe_client.enqueue_many([Weigh(), Weigh(returns=2), Weigh(undone=True)])

    assert [(await carafe_client.get(job.id)).result for job in jobs] == [1, 2, 1]


async def test_jobs_for_later_and_jobs_without_a_handler_stay(carafe_client: Client) -> None:
    with capture_logs() as lines:
        async with testing.inline(carafe_client):
            later = await carafe_client.enqueue(Greet(name="Ada"), delay=60)
            unknown = await carafe_client.enqueue(Unhandled())

    assert (await carafe_client.get(later.id)).state is State.SCHEDULED
    assert (await carafe_client.get(unknown.id)).state is State.QUEUED
    [line] = [line for line in lines if line.get("job_id") == str(unknown.id)]
    assert "no handler for kind 'tests.unhandled'" in line["reason"]


def test_it_works_for_the_synchronous_client(carafe_sync_client: SyncClient, carafe_database_url: str) -> None:
    engine = create_engine(carafe_database_url.replace("postgresql://", "postgresql+psycopg://"))
    with testing.inline(carafe_sync_client), Session(engine) as session:
        accepted = carafe_sync_client.enqueue(Greet(name="Ada"))
        assert carafe_sync_client.get(accepted.id).result == "hello Ada"
        accepted = carafe_sync_client.enqueue(Add(a=1, b=2), session=session)
        session.commit()
        assert carafe_sync_client.get(accepted.id).result == 3
    engine.dispose()


@pytest.mark.parametrize("mode", [testing.inline, testing.manual])
def test_a_mode_is_for_a_client(mode: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a Client or a SyncClient \(got None\)"):
        mode(None)
