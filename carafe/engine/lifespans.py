"""Enters the worker lifespans of one process (`carafe.jobs.worker_lifespan`), and leaves them.

Guarantees: each lifespan is entered and left by one task of its own, a plain one by one thread, since what it holds may need
that. So one that ends or fails closes none of the others. A lifespan that fails at its start, or takes too long, leaves none
of the others entered. One that ends before it is left is reported. One that fails or hangs at its end holds up nobody: it is
named in the log.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from carafe.jobs.errors import InvalidOption
from carafe.jobs.worker_lifespan import WorkerLifespan
from carafe.telemetry.loggers import get_logger
from carafe.texts import in_words, shown

log = get_logger("carafe.lifespans")

T = TypeVar("T")

Values = Mapping[WorkerLifespan[Any], Any]
"""What the lifespans of a process have yielded."""

START = 600.0
"""Seconds within which all lifespans of a worker must be entered. The startup probe of the manifests waits as long."""

UNDONE = 10.0
"""Seconds in which the lifespans that are entered already are left, after another one has failed at its start."""


class LifespanFailed(Exception):
    """Raised when a lifespan failed at its start, or took too long. The text says which, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the worker lifespan {name} {why}")


class Lifespans:
    """The lifespans of one process, on one event loop."""

    def __init__(
        self,
        declared: Sequence[WorkerLifespan[Any]],
        *,
        within: float = START,
        enters: Callable[[str], None] | None = None,
        ended: Callable[[str], None] | None = None,
    ) -> None:
        """`within` is the number of seconds that entering may take. The function `enters` is called with the name of each
        lifespan before it is entered. `ended` is called with the name of each that ends before `leave`, after all were
        entered."""
        self._declared, self._within = declared, within
        self._enters, self._ended = enters, ended
        self.values: dict[WorkerLifespan[Any], Any] = {}
        """What the lifespans have yielded."""
        self.entering: str | None = declared[0].name if declared else None
        """The name of the lifespan that is entered now, or first. None when all are entered, and when they have failed."""
        self._held: list[_Held] = []
        self._given_up = asyncio.Event()

    async def enter(self) -> bool:
        """Enter all lifespans. Returns False if `give_up` was called meanwhile. Raises `LifespanFailed`. Then those
        that were entered are left again."""
        until = time.monotonic() + self._within
        giving_up = asyncio.ensure_future(self._given_up.wait())
        try:
            for lifespan in self._declared:
                self.entering = lifespan.name
                if self._enters is not None:
                    self._enters(lifespan.name)
                if not await self._enter(lifespan, giving_up, until):
                    await self.leave(UNDONE)
                    return False
        except LifespanFailed:
            await self.leave(UNDONE)
            raise
        finally:
            giving_up.cancel()
            self.entering = None
        for held in self._held:
            held.task.add_done_callback(lambda _, held=held: self._has_ended(held))  # type: ignore[misc]
        return True

    async def _enter(self, lifespan: WorkerLifespan[Any], giving_up: "asyncio.Future[Any]", until: float) -> bool:
        held = _Held(lifespan)
        waited = {held.entered, held.task, giving_up, *(one.task for one in self._held)}
        await asyncio.wait(waited, timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if held.entered.done() and not held.task.done():
            self._held.append(held)
            self.values[lifespan] = held.entered.result()
        if giving_up.done():
            self._forget(held)
            return False
        if held.task.done():
            why = "ended at once" if held.error is None else f"failed at its start: {in_words(held.error)}"
            raise LifespanFailed(lifespan.name, why) from held.error
        for earlier in self._held:
            if earlier.task.done():
                self._forget(held)
                because = "" if earlier.error is None else f": {in_words(earlier.error)}"
                raise LifespanFailed(earlier.name, f"ended while others were entered{because}") from earlier.error
        if not held.entered.done():
            self._forget(held)
            words = f"did not start: the worker lifespans were not entered within {self._within:g} s"
            raise LifespanFailed(lifespan.name, words)
        return True

    def _forget(self, held: "_Held") -> None:
        """Stop waiting for a lifespan that is not entered yet."""
        if held not in self._held:
            held.cancel()

    def _has_ended(self, held: "_Held") -> None:
        if held.leave.is_set():
            return
        log.critical("a worker lifespan has ended before its worker", lifespan=held.name, exc_info=held.error)
        if self._ended is not None:
            self._ended(held.name)

    def give_up(self) -> None:
        """Stop entering. The lifespans that are entered already are left."""
        self._given_up.set()

    async def leave(self, timeout: float) -> None:  # noqa: ASYNC109  # the tasks go on leaving when it is over
        """Leave all lifespans, in `timeout` seconds at most. Each may take an equal share of the time that is left, so that
        one that hangs keeps no other from its end. Never raises."""
        held, self._held = self._held, []
        until = time.monotonic() + timeout
        while held:
            share = max(0.0, until - time.monotonic()) / len(held)
            one = held.pop()
            ended_before = one.task.done()
            one.leave.set()
            await asyncio.wait([one.task], timeout=share)
            if not one.task.done():
                log.error("a worker lifespan does not end, the worker ends without it", lifespan=one.name)
                one.cancel()
            elif one.error is not None and not ended_before:
                log.error("a worker lifespan has failed at its end", lifespan=one.name, exc_info=one.error)


class _Held:
    """One lifespan, which a task of its own enters, holds and leaves."""

    def __init__(self, lifespan: WorkerLifespan[Any]) -> None:
        self.name, self._lifespan = lifespan.name, lifespan
        self.entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.leave = asyncio.Event()
        self.error: BaseException | None = None
        """What the lifespan has raised, at whatever moment."""
        self.task = asyncio.create_task(self._hold(), name=f"worker lifespan {lifespan.name}")

    async def _hold(self) -> None:
        try:
            async with self._manager() as value:
                self.entered.set_result(value)
                await self.leave.wait()
        except BaseException as error:  # SystemExit, too: it must not reach the event loop
            self.error = error

    def _manager(self) -> AbstractAsyncContextManager[Any]:
        manager: AbstractAsyncContextManager[Any]
        manager = self._lifespan() if self._lifespan.asynchronous else _in_thread(self._lifespan())
        return manager

    def cancel(self) -> None:
        """Stop waiting for it: whatever it does now is its own affair."""
        self.leave.set()
        self.task.cancel()


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
    try:
        await asyncio.wait([entered, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and (error := ended.result()) is not None:
            raise error
        yield entered.result()
    finally:
        leave.set()  # also for one that is entered only after it was given up
    if (error := await ended) is not None:
        raise error


def _settle(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)


def value_of(values: Values, lifespan: WorkerLifespan[T]) -> T:
    """The value that a lifespan has yielded in this process. Raises `InvalidOption` for anything but a lifespan, and for one
    that was not entered here."""
    if not isinstance(lifespan, WorkerLifespan):
        raise InvalidOption("lifespan", f"is what @worker_lifespan has returned (got {shown(lifespan)})")
    try:
        found: T = values[lifespan]
    except KeyError:
        words = f"{lifespan.name} was not entered in this process: declare it in a module of HANDLER_MODULES"
        raise InvalidOption("lifespan", words) from None
    return found


def trouble_of(declared: Sequence[WorkerLifespan[Any]], within: float) -> str | None:
    """Enter and leave these lifespans, as a worker would. Returns in words what failed at the start, or which one was not
    entered after `within` seconds, even if it blocks its event loop; None if nothing did. Blocks."""
    begun: list[str] = []
    found: list[str | None] = []
    lifespans = partial(Lifespans, declared, within=within, enters=begun.append)
    thread = threading.Thread(target=lambda: found.append(asyncio.run(_trouble_of(lifespans()))), daemon=True)
    thread.start()
    thread.join(within + 2 * UNDONE)
    return found[0] if found else f"the worker lifespan {begun[-1]} blocks the event loop: it neither starts nor ends"


async def _trouble_of(lifespans: Lifespans) -> str | None:
    try:
        await lifespans.enter()
    except LifespanFailed as error:
        return str(error)
    await lifespans.leave(UNDONE)
    return None
