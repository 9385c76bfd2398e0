"""Mistakes that users make, each on a line that says `# wrong`. mypy has to refuse these lines and no other one.

The file is never run, and `make lint` does not check it: `tests/typed/test_user_code.py` does. All other lines are correct.
mypy finds the lines that say `# wrong (plugin)` only with the plugin carafe.mypy.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from carafe import (
    Change,
    Client,
    Context,
    Discard,
    Job,
    JobFilter,
    NewJob,
    Retry,
    Snooze,
    State,
    SyncClient,
    SyncContext,
    handler,
    hook,
    worker_lifespan,
)


class Exported(BaseModel):
    """What an export gives."""

    url: str
    rows: int = 0


class Export(Job[Exported], kind="mistakes.export", timeout=timedelta(minutes=2), max_retries=5):
    """A job with a typed result."""

    report_id: UUID
    recipient: str = "ada@example.org"


class Mail(Job, kind="mistakes.mail", str_strip_whitespace=True):
    """A job that leaves its result open."""

    to: str


# -- declaring


class TextTimeout(Job, kind="mistakes.text_timeout", timeout="5m"):  # wrong (plugin): timeout is in seconds
    pass


class AbstractTimeout(Job, timeout="5m"):  # wrong (plugin): without a kind too
    pass


class VersionOfNoKind(Job, version=2):  # wrong (plugin): a version belongs to a kind
    pass


class OtherKeyword(Job, kind="mistakes.other_keyword", retries=3):  # wrong (plugin): it is max_retries
    pass


class OtherAlphabet(Job, kind="export to PDF"):  # wrong (plugin): a kind has no spaces
    pass


# -- handling


@handler(Export)
async def export(job: Export, ctx: Context) -> Exported | Snooze:
    """As it should be."""
    await ctx.progress(0.5, job.recipient)
    return Exported(url=f"/reports/{job.report_id}") if ctx.attempt > 1 else Snooze(60)


@handler(Mail)
def send(job: Mail, ctx: SyncContext) -> dict[str, str]:
    """As it should be."""
    ctx.progress(0.5)
    if not job.to:
        raise Discard("nobody to send it to")
    return {"to": job.to}


@handler(Mail, isolation="process", memory_limit=10**9)
async def send_apart(job: Mail, ctx: Context, *, server: str = "localhost") -> Any:
    """As it should be."""
    return Retry(server, after=timedelta(minutes=1))


@handler(Mail)  # wrong: the handler of another class
async def other_class(job: Export, ctx: Context) -> None:
    pass


@handler(Mail)  # wrong: a plain function gets a SyncContext
def plain_with_context(job: Mail, ctx: Context) -> None:
    pass


@handler(Export)  # wrong: an asynchronous function gets a Context
async def async_with_sync_context(job: Export, ctx: SyncContext) -> Exported:
    return Exported(url="")


@handler(Export)  # wrong: an export gives Exported
async def other_result(job: Export, ctx: Context) -> str:
    return "done"


@handler(Mail)  # wrong: it gets the context too
async def only_the_job(job: Mail) -> None:
    pass


@handler(Mail, isolation="thread")  # wrong: plain functions run in threads by themselves
def in_thread(job: Mail, ctx: SyncContext) -> None:
    pass


@worker_lifespan
async def shared() -> AsyncIterator[Exported]:
    """As it should be."""
    yield Exported(url="")


@worker_lifespan
@contextmanager
def number() -> Iterator[int]:
    """As it should be."""
    yield 3


class Shared(Job[str], kind="mistakes.shared"):
    """A job whose handler uses what its worker shares."""


@handler(Shared)
def use(job: Shared, ctx: SyncContext) -> str:
    """Right and wrong ways to use it."""
    ctx.result = ctx.lifespan(shared).url * ctx.lifespan(number)
    with ctx.transaction() as session:
        session.add(job)
        session.adds(job)  # wrong: a session has no such method
    return ctx.lifespan(shared).link  # wrong: what it yields has no such field


@worker_lifespan  # wrong: it is called without arguments
def of_a_name(name: str) -> Iterator[str]:
    yield name


@worker_lifespan  # wrong: it yields nothing
async def without_a_yield() -> None:
    pass


# -- hooks


@hook(Export, State.DEAD, "succeeded")
async def follow(session: AsyncSession, change: Change) -> None:
    """As it should be."""


@hook(Mail, "dead")
@hook(Export, "dead")
async def follow_both(session: AsyncSession, change: Change[Export | Mail]) -> None:
    """As it should be."""


@hook(Export, "dead")
async def follow_typed(session: AsyncSession, change: Change[Export]) -> None:
    """Right and wrong ways to use the arguments."""
    address: str = change.job.recipient
    change.job.report_id.hex.join([address, change.state])
    change.job.recipients.lower()  # wrong: a field that it does not have
    change.job.report_id.lower()  # wrong: a UUID


@hook(Export, "dead")  # wrong: the change of another class
async def hook_of_another_class(session: AsyncSession, change: Change[Mail]) -> None:
    pass


@hook(Export, State.DEAD)  # wrong: a hook is asynchronous
def plain_hook(session: AsyncSession, change: Change) -> None:
    pass


@hook(Export, State.DEAD)  # wrong: a hook gets the change, not the job
async def hook_on_job(session: AsyncSession, job: Export) -> None:
    pass


@hook(Export, "failed")  # wrong: there is no such state
async def hook_on_failed(session: AsyncSession, change: Change) -> None:
    pass


# -- enqueueing


async def enqueue(client: Client, session: AsyncSession, report_id: UUID) -> None:
    """Right and wrong ways to put a job in."""
    await client.enqueue(Export(report_id=report_id), session=session, delay=timedelta(minutes=5))
    await client.enqueue_many([Mail(to="ada"), NewJob(Export(report_id=report_id), delay=5)])

    await client.enqueue(Export(report=report_id))  # wrong: an argument that it does not have
    await client.enqueue(Mail(to=report_id))  # wrong: an argument of another type
    await client.enqueue(Mail)  # wrong: the class, not a job
    await client.enqueue(Mail(to="ada"), delay="5m")  # wrong: a delay is in seconds
    await client.enqueue(Mail(to="ada"), session=client)  # wrong: no session


def enqueue_without_a_loop(client: SyncClient, session: Session) -> str:
    """The same with a `SyncClient`."""
    accepted = client.enqueue(Export(report_id=UUID(int=0)), session=session)
    result = client.wait(accepted, timeout=5).result
    client.enqueue(Mail)  # wrong: the class, not a job
    return result.link if result else ""  # wrong: an export has no such field


# -- following


async def follow_to_the_end(client: Client, report_id: UUID) -> str:
    """Right and wrong ways to use a result."""
    accepted = await client.enqueue(Export(report_id=report_id))
    plain = await client.wait(accepted.id)
    await client.find(states=[State.DEAD, "queued"], kind=plain.kind)
    record = await client.wait(accepted)

    await client.get("0190e6a0-7c1e-7d3a-9d0a-5f6a3f5d2b11")  # wrong: an id is a UUID
    await client.find(states=["failed"])  # wrong: there is no such state
    JobFilter(states={"dead"})  # wrong: a frozenset of State
    record.result.url.upper()  # wrong: there is none unless it succeeded
    if record.result is None:
        return str(plain.result["url"])
    return record.result.rows  # wrong: a number
