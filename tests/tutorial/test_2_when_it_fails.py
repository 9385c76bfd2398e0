"""Retries, timeouts, and what a handler can say instead of failing."""

import asyncio

from carafe import Cancel, Client, Context, Discard, Job, Retry, Snooze, State, handler, testing

# Whatever a handler raises is one failed attempt. By default a job has four: the first, and three retries, each after a
# longer pause (exponential backoff with jitter).


class Fetch(Job, kind="tutorial.fetch", max_retries=2):
    succeeds_at: int


@handler(Fetch)
async def fetch(job: Fetch, ctx: Context) -> str:
    if ctx.attempt < job.succeeds_at:
        raise ConnectionError(f"attempt {ctx.attempt} found nobody")
    return "fetched"


async def test_a_failed_attempt_is_retried(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Fetch(succeeds_at=2))

    record = await carafe_client.get(accepted.id)
    assert record.state is State.RETRYING
    assert [failed.error for failed in record.attempts] == ["attempt 1 found nobody"]

    # In production the next attempt waits for its time. Here `drain` runs it at once.
    async with testing.manual(carafe_client) as jobs:
        await jobs.drain(with_retries=True)

    record = await carafe_client.get(accepted.id)
    assert record.state is State.SUCCEEDED
    assert record.attempt == 2


async def test_when_no_attempt_is_left_the_job_is_dead(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        accepted = await carafe_client.enqueue(Fetch(succeeds_at=100))
        await jobs.drain(with_retries=True)

    record = await carafe_client.get(accepted.id)
    assert record.state is State.DEAD
    # Nothing is thrown away: every attempt is on record with its traceback, and an operator can retry the job.
    assert [failed.attempt for failed in record.attempts] == [1, 2, 3]
    assert "ConnectionError" in (record.attempts[0].traceback or "")


# An attempt that takes longer than the job's timeout (in seconds) has failed. An `async def` handler is cancelled, as
# asyncio cancels a task, so `finally` blocks run.


class Hang(Job, kind="tutorial.hang", timeout=0.05, max_retries=0):
    pass


@handler(Hang)
async def hang(job: Hang, ctx: Context) -> None:
    await asyncio.Event().wait()


async def test_an_attempt_ends_at_its_timeout(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Hang())

    record = await carafe_client.get(accepted.id)
    assert record.state is State.DEAD
    assert record.attempts[0].cause == "timeout"


# A handler that knows better than "failed" says so. Raising one of these and returning it mean the same.


class Import(Job, kind="tutorial.import"):
    file: str


@handler(Import)
async def import_(job: Import, ctx: Context) -> str | None:
    match job.file:
        case "locked.csv":
            raise Retry("locked by another program", after=30)  # spends an attempt; the next one in 30 s
        case "missing.csv":
            raise Snooze(3600, "not uploaded yet")  # spends none: asks again in an hour
        case "broken.csv":
            raise Discard("not a CSV file")  # dead at once: no retry can help
        case "deleted.csv":
            raise Cancel("deleted by its owner")  # cancelled: nobody wants it any more
    return "imported"


async def test_a_handler_says_what_is_to_become_of_its_job(carafe_client: Client) -> None:
    files = ["locked.csv", "missing.csv", "broken.csv", "deleted.csv", "good.csv"]
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue_many([Import(file=file) for file in files])

    states = {file: (await carafe_client.get(job.id)).state for file, job in zip(files, accepted, strict=True)}
    assert states == {
        "locked.csv": State.RETRYING,
        "missing.csv": State.SCHEDULED,
        "broken.csv": State.DEAD,
        "deleted.csv": State.CANCELLED,
        "good.csv": State.SUCCEEDED,
    }
