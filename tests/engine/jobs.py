"""The jobs that these tests enqueue, and their hooks (JOB_MODULES)."""

import asyncio
import os
from typing import TYPE_CHECKING

import asyncpg
from pydantic import SecretStr

from carafe import Change, Job, State, hook

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


LATE = 987_654
"""The gate of `tests.engine.slow_claims`."""


class Do(Job):
    """`what` names one of `tests.engine.handlers`'s acts; `gate` is a Postgres advisory lock that the act waits for."""

    what: str
    gate: int = 0
    number: float = 0.0
    secret: SecretStr | None = None


class AsyncDo(Do, kind="engine.async"):
    """Runs on the worker's loop."""


class ThreadDo(Do, kind="engine.thread"):
    """Runs in a thread."""


class ProcessDo(Do, kind="engine.process"):
    """Runs in a child process."""


class Small(Do, kind="engine.small"):
    """Runs in a child process that may grow by 64 MiB."""


DO: dict[str, type[Do]] = {"async": AsyncDo, "thread": ThreadDo, "process": ProcessDo}
"""The class of each mode."""


class NoOp(Job, kind="engine.no_op"):
    """Does nothing, or holds its slot until `gate` opens."""

    gate: int = 0


class Effect(Job, kind="engine.effect"):
    """Leaves a row in the table of effects, in a transaction of its own."""

    word: str = ""


class Commit(Job, kind="engine.commit"):
    """Leaves its effect and ends in one transaction; waits for `gate` before the commit, and for `then` after it."""

    word: str
    fail: bool = False
    gate: int = 0
    then: int = 0


class CommitApart(Commit, kind="engine.commit_apart"):
    """The same in a process of its own."""


class CommitInThread(Commit, kind="engine.commit_in_thread"):
    """The same by a plain function in a thread."""


class CommitInProcess(Commit, kind="engine.commit_in_process"):
    """The same by a plain function in a process of its own."""


COMMITS: tuple[type[Commit], ...] = (Commit, CommitApart, CommitInThread, CommitInProcess)
"""The class of each way to run."""


@hook(CommitInThread, State.SUCCEEDED)
@hook(CommitInProcess, State.SUCCEEDED)
async def sees_the_commit(session: "AsyncSession", change: "Change[CommitInThread | CommitInProcess]") -> None:
    """Fails if it is told to; writes down the result."""
    if change.job.word == "hook fails":
        raise LookupError("not this one")
    if change.job.word == "hooked":
        await write(session, change, f"hook of {change.result['committed']}")


class CommitWithin(Job, kind="engine.commit_within"):
    """Ends in a transaction of its handler's; `what` goes wrong there, at its first attempt."""

    what: str


@hook(CommitWithin, State.SUCCEEDED)
async def sees_the_attempt(session: "AsyncSession", change: Change) -> None:
    """Writes down which attempt it is; waits for ever if it is told to."""
    if change.arguments["what"] == "hook for ever" and change.attempt == 1:
        await asyncio.Event().wait()
    await write(session, change, f"attempt {change.attempt}")


class OnRedis(Job, kind="engine.on_redis"):
    """Waits for an element of the Redis list `gate`; needs no Postgres meanwhile."""

    gate: str


class Hooked(Job, kind="engine.hooked"):
    """Its hooks write what they see into the table of effects."""

    what: str = "succeed"
    bad: str = ""
    how: str = "ValueError"
    gate: int = 0


async def write(session: "AsyncSession", change: Change, word: str) -> None:
    """A row of effects."""
    from sqlalchemy import text

    await session.execute(
        text("insert into effects (job_id, word) values (:id, :word)"), {"id": change.job_id, "word": word}
    )


async def fail_by(how: str, session: "AsyncSession", words: str) -> None:
    """What a hook can do wrong."""
    from sqlalchemy import text

    match how:
        case "TimeoutError":
            raise TimeoutError(words)
        case "OSError":
            raise ConnectionRefusedError(words)
        case "InterfaceError":
            raise asyncpg.InterfaceError(words)
        case "Deadlock":
            raise asyncpg.DeadlockDetectedError(words)
        case "a timeout of its own":
            async with asyncio.timeout(0.1):
                await session.execute(text("select pg_sleep(4)"))
        case "cancels everybody":
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.Event().wait()
        case "ends its connection":
            if await session.scalar(text("select exists (select from effects where word = 'mended')")):
                return
            await session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    raise ValueError(words)


@hook(Hooked, State.RUNNING, State.SUCCEEDED, State.RETRYING, State.DEAD, State.CANCELLED, State.QUEUED)
async def remembers(session: "AsyncSession", change: Change) -> None:
    """Writes the state into `effects`, and fails in the state that `bad` names."""
    await write(session, change, change.state.value)
    if change.arguments["bad"] == change.state.value:
        await fail_by(change.arguments["how"], session, f"no {change.state.value}, please")


class Versioned(Job, kind="engine.versioned", version=int(os.environ.get("JOB_VERSION", "2"))):
    """Its version is that of the release that imports it."""

    word: str = "new"


class Elsewhere(Job, kind="engine.elsewhere"):
    """Has a handler in `tests.engine.other_handlers` alone."""

    word: str = ""
