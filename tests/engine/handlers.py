"""The handlers of `tests.engine.jobs` (HANDLER_MODULES). Only the worker process imports this module."""

import asyncio
import contextlib
import ctypes
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
from pydantic import BaseModel

from carafe import Cancel, Context, Discard, Retry, Snooze, SyncContext, handler
from tests.engine.jobs import (
    AsyncDo,
    Commit,
    CommitApart,
    CommitInProcess,
    CommitInThread,
    CommitWithin,
    Do,
    Effect,
    Hooked,
    NoOp,
    OnRedis,
    ProcessDo,
    Small,
    ThreadDo,
    Versioned,
)

if TYPE_CHECKING:
    import psycopg


class Model(BaseModel):
    """A result."""

    name: str
    size: int


@dataclass
class Record:
    """Another."""

    name: str
    size: int


RESULTS: dict[str, Any] = {
    "dict": {"a": [1, None, "ü"]},
    "model": Model(name="m", size=2),
    "dataclass": Record("d", 3),
    "none": None,
    "large": "x" * 300_000,
    "not json": object(),
    "nul": {"text": "a\0b"},
}


def act(job: Do, ctx: Context | SyncContext) -> Any:
    """What is the same in every mode: returns, raises, or harms its process."""
    match job.what:
        case "retry":
            if ctx.attempt == 1:
                raise Retry("not yet", after=job.number)
            return ctx.attempt
        case "return retry":
            return Retry("not yet", after=job.number) if ctx.attempt == 1 else ctx.attempt
        case "discard":
            raise Discard("never")
        case "return discard":
            return Discard("never")
        case "cancel":
            raise Cancel("no longer wanted")
        case "return cancel":
            return Cancel("no longer wanted")
        case "error":
            raise LookupError("nothing there \0 at all")
        case "secret":
            assert job.secret is not None
            return hashlib.sha256(job.secret.get_secret_value().encode()).hexdigest()
        case "spin":
            while not (ctx.cancelled and job.number):
                pass
            return None
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "eat":
            return len(bytearray(int(job.number)))
        case "pid":
            return os.getpid()
    return RESULTS[job.what]


def connected() -> "psycopg.Connection":
    """A connection of a plain function's own."""
    import psycopg  # here: a child process that makes no connection is spared a fifth of its start

    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def pass_gate(gate: int) -> None:
    """Wait until nobody holds the advisory lock."""
    with connected() as connection:
        connection.execute("select pg_advisory_lock_shared(%s)", (gate,))


async def pass_gate_async(gate: int) -> None:
    """The same on the loop."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await connection.execute("select pg_advisory_lock_shared($1)", gate)
    finally:
        connection.terminate()


def runs(ctx: SyncContext, word: str = "run") -> int:
    """Record an effect; how many this job has left by now."""
    with connected() as connection:
        connection.execute("insert into effects (job_id, word) values (%s, %s)", (ctx.job_id, word))
        found = connection.execute("select count(*) from effects where job_id = %s", (ctx.job_id,)).fetchone()
        assert found is not None
        return int(found[0])


async def runs_async(ctx: Context, word: str = "run") -> int:
    """The same on the loop."""
    async with ctx.database.connection() as connection:
        await connection.execute("insert into effects (job_id, word) values ($1, $2)", ctx.job_id, word)
        return int(await connection.fetchval("select count(*) from effects where job_id = $1", ctx.job_id))


@handler(AsyncDo)
async def do_async(job: AsyncDo, ctx: Context) -> Any:
    match job.what:
        case "snooze":
            if await runs_async(ctx) == 1:
                raise Snooze(job.number)
            return ctx.attempt
        case "return snooze":
            return Snooze(job.number) if await runs_async(ctx) == 1 else ctx.attempt
        case "progress":
            await ctx.progress(0.4, "half\0way")
            await pass_gate_async(job.gate)
            return None
        case "hold":
            await runs_async(ctx, "begun")
            await pass_gate_async(job.gate)
            await runs_async(ctx, "finished")
            return "held"
        case "hold in thread":
            await runs_async(ctx, "begun")
            await asyncio.to_thread(pass_gate, job.gate)
        case "block":
            pass_gate(job.gate)  # on the loop, as no handler should
            return None
        case "fill the loop's threads":
            for _ in range(100):
                asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
            await runs_async(ctx, "begun")
            await asyncio.Event().wait()
        case "block for ever":
            await runs_async(ctx, "begun")
            threading.Event().wait()
        case "for ever":
            await asyncio.Event().wait()
        case "swallow":
            # Swallows the first cancellation, as careless code does.
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await runs_async(ctx, "swallowed")
            await asyncio.Event().wait()
    return act(job, ctx)


def do_sync(job: Do, ctx: SyncContext) -> Any:
    """The acts of a plain function, in a thread or a child process."""
    match job.what:
        case "snooze":
            if runs(ctx) == 1:
                raise Snooze(job.number)
            return ctx.attempt
        case "return snooze":
            return Snooze(job.number) if runs(ctx) == 1 else ctx.attempt
        case "progress":
            ctx.progress(0.4, "half\0way")
            pass_gate(job.gate)
            return None
        case "hold":
            runs(ctx, "begun")
            pass_gate(job.gate)
            runs(ctx, "finished")
            return "held"
        case "for ever":
            runs(ctx, f"pid {os.getpid()}")
            threading.Event().wait()
    return act(job, ctx)


@handler(ThreadDo)
def do_in_thread(job: ThreadDo, ctx: SyncContext) -> Any:
    return do_sync(job, ctx)


@handler(ProcessDo, isolation="process")
def do_in_process(job: ProcessDo, ctx: SyncContext) -> Any:
    return do_sync(job, ctx)


@handler(Small, isolation="process", memory_limit=64 * 1024 * 1024)
def do_in_small_process(job: Small, ctx: SyncContext) -> Any:
    return do_sync(job, ctx)


@handler(NoOp)
async def no_op(job: NoOp, ctx: Context) -> None:
    if job.gate:
        await pass_gate_async(job.gate)


@handler(Effect)
async def effect(job: Effect, ctx: Context) -> None:
    await runs_async(ctx, job.word)


@handler(Commit)
async def commit(job: Commit, ctx: Context) -> str:
    from sqlalchemy import text

    # Outside the transaction, so that it stays in any case.
    word = f"{job.word} by run {await runs_async(ctx, 'begun')}" if job.gate else job.word
    ctx.result = {"committed": word}
    async with ctx.transaction() as session:
        await session.execute(
            text("insert into effects (job_id, word) values (:id, :word)"), {"id": ctx.job_id, "word": word}
        )
        if job.word == "nests":
            async with ctx.transaction():
                pass
        if job.gate:
            await pass_gate_async(job.gate)
        if job.fail:
            raise LookupError("after the effect")
    if job.then:
        await pass_gate_async(job.then)
        await runs_async(ctx, "afterwards")
    return "ignored"


handler(CommitApart, isolation="process")(commit)


def commit_plainly(job: Commit, ctx: SyncContext) -> str:
    from sqlalchemy import text

    word = f"{job.word} by run {runs(ctx, 'begun')}" if job.gate else job.word
    ctx.result = {"committed": word}
    insert = text("insert into effects (job_id, word) values (:id, :word)")
    if job.word == "another thread":
        with ThreadPoolExecutor(1) as threads:
            threads.submit(ctx.transaction().__enter__).result()
    with ctx.transaction() as session:
        session.execute(insert, {"id": ctx.job_id, "word": word})
        if job.word == "swallows":
            with contextlib.suppress(Exception):
                session.execute(text("select 1/0"))
        if job.word == "savepoint":
            with contextlib.suppress(Exception), session.begin_nested():
                session.execute(text("select 1/0"))
        if job.word == "loses its connection":
            session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
        if job.word == "nests":
            with ctx.transaction():
                pass
        if job.word == "exits":
            raise SystemExit("for no reason")
        if job.word == "commits":
            session.commit()
        if job.word == "waits in its transaction":
            session.execute(text("select pg_advisory_lock_shared(:gate)"), {"gate": job.gate})
        elif job.gate:
            pass_gate(job.gate)
        if job.fail:
            raise LookupError("after the effect")
    if job.then:
        pass_gate(job.then)
        runs(ctx, "afterwards")
    return "ignored"


handler(CommitInThread)(commit_plainly)
handler(CommitInProcess, isolation="process")(commit_plainly)


@handler(CommitWithin)
async def commit_within(job: CommitWithin, ctx: Context) -> None:
    async with asyncio.timeout(0.2 if job.what == "hook for ever" else None), ctx.transaction() as session:
        if ctx.attempt > 1:
            return
        match job.what:
            case "TimeoutError":
                raise TimeoutError("of the handler's own")
            case "OSError":
                raise ConnectionRefusedError("of the handler's own")
            case "InterfaceError":
                raise asyncpg.InterfaceError("of the handler's own")
            case "a pool of its own":
                from sqlalchemy.exc import TimeoutError as PoolTimeout

                raise PoolTimeout("of the handler's own")
        await session.flush()


@handler(OnRedis)
async def on_redis(job: OnRedis, ctx: Context) -> str:
    from redis.asyncio import Redis  # here, since each child process imports this module

    redis = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=None)  # it waits for as long as the test wants
    try:
        await redis.blpop([job.gate], timeout=0)
    finally:
        await redis.aclose()
    return "released"


@handler(Hooked)
async def hooked(job: Hooked, ctx: Context) -> str:
    if job.gate:
        await pass_gate_async(job.gate)
    if job.what == "fail":
        raise LookupError("as told")
    return "done"


@handler(Versioned)
async def versioned(job: Versioned, ctx: Context) -> int:
    return Versioned.job_options.version
