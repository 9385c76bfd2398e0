"""Handlers that try to harm their worker, which must not be affected (HANDLER_MODULES).

`ACTS` has what every mode can do, `ON_THE_LOOP` what needs an event loop. Each act has the text with which its attempt must
fail (`words`), or None if the attempt must succeed.
"""

import asyncio
import builtins
import contextlib
import contextvars
import ctypes
import decimal
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from carafe import Cancel, Context, Discard, Retry, Snooze, SyncContext, handler
from tests.engine.hostile_jobs import (
    HostileAsync,
    HostileProcess,
    HostileThread,
    Joins,
    Ordinary,
    OrdinaryThread,
    Waits,
)

seen: contextvars.ContextVar[str] = contextvars.ContextVar("left by another job", default="")


@dataclass(frozen=True)
class Act:
    """`words` must be in the error's class and message; None: it ends without one."""

    run: Callable[[], Any]
    words: str | None


class NoText(Exception):
    """Its text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NoneForText(Exception):
    """What people get wrong."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class ExitsForText(Exception):
    """Worse."""

    def __str__(self) -> str:
        raise SystemExit(4)


class Liar(Exception):
    """Says that it is something else, and raises when it is asked."""

    @property
    def __class__(self) -> Any:
        raise SystemExit(5)

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class SaysItIsRetry(Exception):
    """No outcome at all."""

    @property
    def __class__(self) -> Any:
        return Retry

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class NoModule(Exception):
    """Its module is not a text."""

    __module__ = 5  # type: ignore[assignment]


class HostileText(str):
    """A text with methods of its own."""

    def replace(self, *_: Any) -> Any:
        raise KeyboardInterrupt

    encode = __getitem__ = __len__ = __str__ = replace  # type: ignore[assignment]


class OwnRetry(Retry):
    """Does not call its parent."""

    def __init__(self) -> None:
        self.unrelated = 1


class BadResult:
    """What cannot be looked at."""

    @property
    def __class__(self) -> Any:
        raise KeyboardInterrupt

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        raise SystemExit(6)

    def __bool__(self) -> bool:
        raise SystemExit(7)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise SystemExit(8)


def throws(error: BaseException) -> Callable[[], Any]:
    """Raise it again."""

    def run() -> Any:
        raise error.with_traceback(None)

    return run


def _instance(kind: type[BaseException]) -> BaseException:
    """One of a builtin class, which may want arguments."""
    for arguments in (
        ("hostile",),
        ("utf-8", b"x", 0, 1, "hostile"),
        ("utf-8", "x", 0, 1, "hostile"),
        ("x", 0, 1, "hostile"),
        ("hostile", [ValueError("inner")]),
    ):
        with contextlib.suppress(TypeError):
            return kind(*arguments)
    raise AssertionError(kind)


BUILTINS = sorted(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and name == kind.__name__
)
"""Every class of exception that Python has (aliases such as IOError are the same class)."""


EACH = {name: _instance(vars(builtins)[name]) for name in BUILTINS}


def chain(depth: int) -> Any:
    error: BaseException = ValueError("the first")
    for number in range(depth):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    raise error


def circle() -> Any:
    first, second = ValueError("one"), ValueError("two")
    first.__cause__, second.__context__ = second, first
    raise first


def group(depth: int, width: int = 1) -> Any:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("layer", [error] * width)
    raise error


def deep() -> Any:
    return deep()


def lowered() -> Any:
    sys.setrecursionlimit(200)

    def down(left: int) -> Any:
        return down(left - 1) if left else None

    return down(500)


def closes_standard_descriptors() -> None:
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(number)


def reconfigures_logging() -> None:
    logging.basicConfig(force=True, level=logging.CRITICAL)
    logging.disable(logging.CRITICAL)
    logging.shutdown()


def logs_hostile_values() -> None:
    log = logging.getLogger("hostile")
    with contextlib.suppress(BaseException):
        log.error("%s", NoText())
    with contextlib.suppress(BaseException):
        log.error(NoText())
    with contextlib.suppress(BaseException):
        log.error("extra", extra={"value": ExitsForText(), "other": HostileText("x")}, exc_info=Liar("x"))
    log.error("\ud800\0 and so on")


def in_a_thread_of_its_own() -> None:
    def exits() -> None:
        raise SystemExit(9)

    thread = threading.Thread(target=exits)
    thread.start()
    thread.join()


def leaves_a_thread() -> None:
    threading.Thread(target=threading.Event().wait, args=(0.2,), daemon=True).start()


def sets_a_context_variable() -> str:
    before = seen.get()
    seen.set("hostile")
    decimal.getcontext().prec = 2
    return before


def ignores_warnings() -> None:
    warnings.resetwarnings()
    warnings.simplefilter("error")
    warnings.resetwarnings()


def injects_into_its_own_thread() -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))
    for _ in range(1_000):
        pass


def deep_result() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def generator() -> Any:
    yield 1


async def coroutine() -> None: ...


async def asynchronous_generator() -> Any:
    yield 1


def replaces_stdout() -> None:
    sys.stdout = None
    sys.stderr = None


def swallows() -> int:
    """Ends a group it is not in, and a child that it has."""
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL)
    return child.wait()


ACTS: dict[str, Act] = {
    # By its own class: a BaseExceptionGroup of errors is an ExceptionGroup.
    **{f"raises {name}": Act(throws(error), type(error).__name__) for name, error in EACH.items()},
    "raises CancelledError": Act(throws(asyncio.CancelledError("mine")), "CancelledError the handler was cancelled"),
    "raises an exception without text": Act(throws(NoText()), "NoText, whose text cannot be made: RuntimeError"),
    "raises one whose text is None": Act(throws(NoneForText()), "NoneForText, whose text cannot be made: TypeError"),
    "raises one whose text exits": Act(throws(ExitsForText()), "ExitsForText, whose text cannot be made: SystemExit"),
    "raises one whose class exits": Act(throws(Liar("lies")), "Liar lies"),
    "raises one that says it is a retry": Act(throws(SaysItIsRetry("no retry")), "SaysItIsRetry no retry"),
    "raises one without a module": Act(throws(NoModule("homeless")), "NoModule homeless"),
    "raises one with a hostile text": Act(
        throws(ValueError(HostileText("sly"))), "ValueError, whose text cannot be made: KeyboardInterrupt"
    ),
    "raises with NUL and surrogate": Act(throws(ValueError("a\0b\ud800")), "ValueError a\\0b\\ud800"),
    "raises a huge text": Act(throws(ValueError("x" * 5_000_000)), "ValueError xxx"),
    "raises a chain of 20,000": Act(lambda: chain(20_000), "ValueError number 19999"),
    "raises a circle": Act(circle, "ValueError one"),
    "raises a deep group": Act(lambda: group(900), "ExceptionGroup layer"),
    "raises a wide group": Act(lambda: group(2, 3_000), "ExceptionGroup layer (3000 sub-exceptions)"),
    "recurses for ever": Act(deep, "RecursionError"),
    "lowers the recursion limit": Act(lowered, "RecursionError"),
    "raises Retry of an exception": Act(lambda: throws(Retry(ValueError("boom")))(), "Retry ValueError: boom"),
    "raises Discard of a number": Act(lambda: throws(Discard(5))(), "Discard 5"),
    "raises Discard of None": Act(lambda: throws(Discard(None))(), "Discard no reason given"),
    "raises Discard of bytes": Act(lambda: throws(Discard(b"x"))(), "Discard x"),
    "raises Cancel of bytes": Act(lambda: throws(Cancel(b"unwanted"))(), "unwanted"),
    "raises a retry of its own": Act(lambda: throws(OwnRetry())(), "Retry no reason given"),
    "snoozes for 30,000 years": Act(
        lambda: throws(Snooze(1e12))(), "InvalidOption Snooze(): must be a number of seconds up"
    ),
    "snoozes for nan": Act(lambda: throws(Snooze(float("nan")))(), "InvalidOption Snooze()"),
    "retries after inf": Act(lambda: throws(Retry(after=float("inf")))(), "InvalidOption Retry(after=)"),
    "retries after a word": Act(lambda: throws(Retry(after="soon"))(), "InvalidOption Retry(after=)"),  # type: ignore[arg-type]
    "returns what cannot be looked at": Act(
        BadResult, "ResultNotUsable the result (tests.engine.hostile_handlers.BadResult)"
    ),
    "returns NaN": Act(lambda: {"x": [float("nan")]}, "ResultNotUsable the result holds NaN or Infinity"),
    "returns infinity": Act(lambda: float("-inf"), "ResultNotUsable the result holds NaN or Infinity"),
    "returns an integer beyond 64 bits": Act(lambda: 2**64, "ResultNotUsable the result holds an integer beyond 64 bits"),
    "returns a surrogate": Act(lambda: "\ud800", "ResultNotUsable"),
    "returns a deep list": Act(deep_result, "ResultNotUsable"),
    "returns a generator": Act(generator, "ResultNotUsable the handler returned a generator"),
    "returns a coroutine": Act(coroutine, "ResultNotUsable the handler returned a coroutine"),
    "returns an asynchronous generator": Act(
        asynchronous_generator, "ResultNotUsable the handler returned a async_generator"
    ),
    "returns a class of exception": Act(lambda: ValueError, "ResultNotUsable"),
    "exits": Act(sys.exit, "SystemExit"),
    "exits in a thread of its own": Act(in_a_thread_of_its_own, None),
    "leaves a thread": Act(leaves_a_thread, None),
    "disables garbage collection": Act(gc.disable, None),
    "changes the folder": Act(lambda: os.chdir("/"), None),
    "replaces standard output": Act(replaces_stdout, None),
    "closes the standard descriptors": Act(closes_standard_descriptors, None),
    "reconfigures logging": Act(reconfigures_logging, None),
    "logs hostile values": Act(logs_hostile_values, None),
    "sets a context variable": Act(sets_a_context_variable, None),
    "changes warnings": Act(ignores_warnings, None),
    "runs a program": Act(swallows, None),
}
"""What every mode does."""

IN_A_THREAD_OF_OURS = {
    "is ended from outside": Act(injects_into_its_own_thread, "SystemExit"),
    "runs an event loop": Act(lambda: asyncio.run(coroutine()), None),
}
"""What only a plain function does."""


def cancels_itself() -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return asyncio.sleep(10)


def cancels_everybody() -> Any:
    for task in asyncio.all_tasks():
        task.cancel()
    return asyncio.sleep(10)


async def awaits_a_task_that(raises: BaseException) -> Any:
    async def raising() -> None:
        raise raises.with_traceback(None)

    await asyncio.get_running_loop().create_task(raising())


async def leaves_a_task_that_exits() -> None:
    async def raising() -> None:
        raise SystemExit(11)

    asyncio.get_running_loop().create_task(raising())


async def leaves_a_callback_that_exits() -> None:
    asyncio.get_running_loop().call_soon(throws(KeyboardInterrupt("left")))


async def leaves_a_task() -> None:
    asyncio.get_running_loop().create_task(asyncio.sleep(0.3), name="left")


async def swallows_its_cancellation() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        return "swallowed"
    return "never"


async def blocks_its_loop() -> None:
    threading.Event().wait(2)


async def closes_its_coroutine() -> None:
    task = asyncio.current_task()
    assert task is not None

    def close() -> None:
        task.get_coro().close()

    asyncio.get_running_loop().call_soon(close)
    await asyncio.sleep(10)


async def runs_its_loop() -> None:
    asyncio.get_running_loop().run_until_complete(coroutine())


async def takes_314_for_granted() -> None:
    create_task: Any = asyncio.get_running_loop().create_task
    await create_task(coroutine(), eager_start=True)


def of_the_loop(method: str, *arguments: Any) -> Callable[[], Any]:
    """Call a method of the running loop; await what it returns."""

    async def run() -> None:
        answer = getattr(asyncio.get_running_loop(), method)(*arguments)
        if asyncio.iscoroutine(answer):
            await answer

    return run


SHARED = "all handlers of its worker share it"

ON_THE_LOOP: dict[str, Act] = {
    "cancels itself": Act(cancels_itself, "CancelledError the handler was cancelled"),
    "cancels itself and swallows it": Act(swallows_its_cancellation, None),
    "cancels everybody": Act(cancels_everybody, "CancelledError the handler was cancelled"),
    "awaits a task that exits": Act(lambda: awaits_a_task_that(SystemExit(12)), "SystemExit 12"),
    "awaits a task that is interrupted": Act(lambda: awaits_a_task_that(KeyboardInterrupt("inner")), "KeyboardInterrupt"),
    "awaits a task that is a closed generator": Act(lambda: awaits_a_task_that(GeneratorExit("inner")), "GeneratorExit"),
    "leaves a task that exits": Act(leaves_a_task_that_exits, None),
    "leaves a callback that exits": Act(leaves_a_callback_that_exits, None),
    "leaves a task": Act(leaves_a_task, None),
    "closes its coroutine": Act(closes_its_coroutine, "GeneratorExit"),
    "blocks its loop": Act(blocks_its_loop, None),
    "stops its loop": Act(of_the_loop("stop"), SHARED),
    "closes its loop": Act(of_the_loop("close"), SHARED),
    "shuts its loop's threads down": Act(of_the_loop("shutdown_default_executor"), SHARED),
    "shuts its loop's generators down": Act(of_the_loop("shutdown_asyncgens"), SHARED),
    "sets a task factory": Act(of_the_loop("set_task_factory", throws(ValueError("factory"))), None),
    "sets an exception handler": Act(of_the_loop("set_exception_handler", throws(ValueError("handler"))), None),
    "runs its loop": Act(runs_its_loop, SHARED),
    "begins a task at once": Act(takes_314_for_granted, None),
    "runs a loop in a loop": Act(lambda: asyncio.run(coroutine()), "RuntimeError asyncio.run() cannot be called"),
}
"""What only an ``async def`` handler does."""


async def _awaited(act: Act) -> Any:
    value = act.run()
    # What `ACTS` returns is returned as it is, coroutines too.
    return await value if act in ON_THE_LOOP.values() and isinstance(value, Awaitable) else value


@handler(HostileAsync)
async def hostile_async(job: HostileAsync, ctx: Context) -> Any:
    return await _awaited(ACTS[job.what] if job.what in ACTS else ON_THE_LOOP[job.what])


@handler(HostileThread)
def hostile_in_thread(job: HostileThread, ctx: SyncContext) -> Any:
    return (ACTS | IN_A_THREAD_OF_OURS)[job.what].run()


@handler(HostileProcess, isolation="process")
def hostile_in_process(job: HostileProcess, ctx: SyncContext) -> Any:
    match job.what:
        case "ends its process":
            os._exit(13)
        case "kills itself":
            os.kill(os.getpid(), signal.SIGKILL)
        case "terminates itself":
            os.kill(os.getpid(), signal.SIGTERM)
    return ACTS[job.what].run()


@handler(Ordinary)
async def ordinary(job: Ordinary, ctx: Context) -> list[Any]:
    await asyncio.sleep(0)
    assert await asyncio.to_thread(lambda: 7) == 7
    return ["done", seen.get(), decimal.getcontext().prec]


@handler(OrdinaryThread)
def ordinary_in_thread(job: OrdinaryThread, ctx: SyncContext) -> list[Any]:
    return ["done", seen.get(), decimal.getcontext().prec]


@handler(Waits)
async def waits(job: Waits, ctx: Context) -> str:
    from redis.asyncio import Redis  # here, since each child process imports this module

    redis = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=None)
    try:
        await redis.blpop([job.gate], timeout=0)
    finally:
        await redis.aclose()
    return "waited"


@handler(Joins)
async def joins(job: Joins, ctx: Context) -> None:
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
