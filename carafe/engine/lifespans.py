"""Enters the worker lifespans of one process (`carafe.jobs.worker_lifespan`), and leaves them.

Guarantees: an asynchronous lifespan is entered and left by one task, a plain one by one thread, since what they hold may
need that. A lifespan that fails at its start leaves none of the others entered. One that fails or hangs at its end holds up
nobody: it is named in the log.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar

from carafe.jobs.errors import InvalidOption
from carafe.jobs.worker_lifespan import WorkerLifespan
from carafe.telemetry.loggers import get_logger
from carafe.texts import in_words, shown

log = get_logger("carafe.lifespans")

T = TypeVar("T")


class LifespanFailed(Exception):
    """Raised when a lifespan failed at its start. The text says which, and why."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(f"the worker lifespan {name} failed at its start: {in_words(error)}")


class Lifespans:
    """The lifespans of one process, on one event loop."""

    def __init__(self, declared: Sequence[WorkerLifespan[Any]]) -> None:
        self._declared = declared
        self.values: dict[str, Any] = {}
        """What the lifespans have yielded, by their names."""
        self.entering = bool(declared)
        """Whether there are lifespans that are not entered yet."""
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._leaving = ""

    async def enter(self) -> bool:
        """Enter all lifespans. Returns False if `give_up` was called meanwhile. Raises `LifespanFailed`."""
        if not self._declared:
            return True
        entered = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(entered), name="worker lifespans")
        await asyncio.wait([self._task, entered], return_when=asyncio.FIRST_COMPLETED)
        self.entering = False
        if entered.done():
            return True
        if self._task.cancelled():
            return False
        await self._task
        return False

    def give_up(self) -> None:
        """Stop entering. The lifespans that are entered already are left."""
        if self._task is not None and self.entering:
            self._task.cancel()

    async def leave(self, timeout: float) -> None:  # noqa: ASYNC109  # the task goes on leaving when it is over
        """Leave all lifespans, in `timeout` seconds at most. Never raises."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leave.set()
        await asyncio.wait([task], timeout=timeout)
        if not task.done():
            log.error("a worker lifespan does not end, the worker ends without it", lifespan=self._leaving)
            task.cancel()

    async def _hold(self, entered: "asyncio.Future[None]") -> None:
        held: list[tuple[str, AbstractAsyncContextManager[Any]]] = []
        try:
            for lifespan in self._declared:
                try:
                    manager = lifespan() if lifespan.asynchronous else _in_thread(lifespan())
                    self.values[lifespan.name] = await manager.__aenter__()
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # SystemExit, too: it must not reach the event loop
                    raise LifespanFailed(lifespan.name, error) from error
                held.append((lifespan.name, manager))
            entered.set_result(None)
            await self._leave.wait()
        finally:
            for name, manager in reversed(held):
                self._leaving = name
                await _left(name, manager)


async def _left(name: str, manager: AbstractAsyncContextManager[Any]) -> None:
    try:
        await manager.__aexit__(None, None, None)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        log.error("a worker lifespan has failed at its end", lifespan=name, exc_info=error)


@asynccontextmanager
async def _in_thread(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a plain context manager in a thread of its own. The thread does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    entered: asyncio.Future[Any] = loop.create_future()
    ended: asyncio.Future[Any] = loop.create_future()
    leave = threading.Event()

    def hold() -> None:
        try:
            with manager as value:
                loop.call_soon_threadsafe(_settle, entered, value)
                leave.wait()
        except BaseException as error:
            # As a value: a future does not take every error as its exception.
            loop.call_soon_threadsafe(_settle, ended, error)
        else:
            loop.call_soon_threadsafe(_settle, ended, None)

    threading.Thread(target=hold, name="carafe lifespan", daemon=True).start()
    await asyncio.wait([entered, ended], return_when=asyncio.FIRST_COMPLETED)
    if ended.done() and (error := ended.result()) is not None:
        raise error
    yield entered.result()
    leave.set()
    if (error := await ended) is not None:
        raise error


def _settle(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)


def value_of(values: Mapping[str, Any], lifespan: WorkerLifespan[T]) -> T:
    """The value that a lifespan has yielded in this process. Raises `InvalidOption` for anything but a lifespan, and for one
    that was not entered here."""
    if not isinstance(lifespan, WorkerLifespan):
        raise InvalidOption("lifespan", f"is what @worker_lifespan has returned (got {shown(lifespan)})")
    try:
        found: T = values[lifespan.name]
    except KeyError:
        words = f"{lifespan.name} was not entered in this process: declare it in a module of HANDLER_MODULES"
        raise InvalidOption("lifespan", words) from None
    return found


async def trouble_of(declared: Sequence[WorkerLifespan[Any]], timeout: float) -> str | None:  # noqa: ASYNC109
    """Enter and leave these lifespans, as a worker would. Returns in words what failed at the start, or that it took longer
    than `timeout` seconds; None if nothing did."""
    lifespans = Lifespans(declared)
    try:
        async with asyncio.timeout(timeout):
            await lifespans.enter()
    except LifespanFailed as error:
        return str(error)
    except TimeoutError:
        return f"the worker lifespans did not start within {timeout:g} s"
    finally:
        lifespans.give_up()
        await lifespans.leave(timeout)
    return None
