"""The jobs of these tests, with their handlers."""

import asyncio
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from carafe import Cancel, Context, Discard, Job, Retry, Snooze, SyncContext, handler


class Greet(Job, kind="tests.greet"):
    """The simplest job."""

    name: str


@handler(Greet)
async def greet(job: Greet, ctx: Context) -> str:
    """Returns a greeting."""
    return f"hello {job.name}"


class Add(Job, kind="tests.add"):
    """Runs in a thread."""

    a: int
    b: int


@handler(Add)
def add(job: Add, ctx: SyncContext) -> int:
    """Returns the sum."""
    return job.a + job.b


class Fail(Job, kind="tests.fail", max_retries=2):
    """Fails until its attempt number `until`."""

    until: int = 1_000


@handler(Fail)
async def fail(job: Fail, ctx: Context) -> str:
    """Raises, or says which attempt it was."""
    if ctx.attempt < job.until:
        raise ValueError(f"attempt {ctx.attempt} failed")
    return f"attempt {ctx.attempt}"


class Say(Job, kind="tests.say"):
    """Ends in the way it is told."""

    what: str


@handler(Say)
async def say(job: Say, ctx: Context) -> None:
    """Raises the outcome."""
    match job.what:
        case "retry":
            raise Retry("not yet", after=60)
        case "snooze":
            raise Snooze(60)
        case "discard":
            raise Discard("never")
        case "cancel":
            raise Cancel("not wanted")


class Stall(Job, kind="tests.stall", timeout=0.05, max_retries=0):
    """Takes longer than its timeout."""


@handler(Stall)
async def stall(job: Stall, ctx: Context) -> None:
    """Waits for ever."""
    await asyncio.Event().wait()


class Login(Job, kind="tests.login", max_retries=0):
    """Takes a secret, and fails with it in hand."""

    user: str
    password: SecretStr
    tokens: tuple[SecretStr, ...] = ()


@handler(Login)
async def login(job: Login, ctx: Context) -> int:
    """Returns the length of what it could see, or fails in front of it."""
    if job.user == "nobody":
        raise PermissionError(f"{job!r} may not log in")
    return len(job.password.get_secret_value())


class Note(Job, kind="tests.note", max_retries=0):
    """Writes a row in the transaction that ends it."""

    id: UUID
    fails: bool = False


@handler(Note)
async def note(job: Note, ctx: Context) -> None:
    """One row, or an error behind it."""
    async with ctx.transaction() as session:
        await session.execute(text("create table if not exists notes (id uuid primary key)"))
        await session.execute(text("insert into notes (id) values (:id)"), {"id": job.id})
        if job.fails:
            raise RuntimeError("after the row")
        ctx.result = "noted"


class Unhandled(Job, kind="tests.unhandled"):
    """Nobody in this process runs it."""

    value: str = ""
