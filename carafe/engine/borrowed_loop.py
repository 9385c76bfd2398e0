"""Lets plain functions use a SQLAlchemy ``Session`` whose connection belongs to an event loop in another thread.

With a driver for asyncio, SQLAlchemy runs plain code in a greenlet. When a statement has to wait, the greenlet gives its
parent an awaitable and is switched back to with the result. SQLAlchemy's own parent awaits it on the loop of this thread.
Here the parent has it awaited on the loop of another thread, and blocks until that is done. So each thread of handlers runs
in such a greenlet (`run`), and the transaction of a plain handler (`block`) is the one of an ``async def`` handler: the same
connections, timeouts, hooks and fence.

Must never: let an error that would end an event loop (``SystemExit``) reach the loop.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from carafe.jobs.errors import InvalidOption
from carafe.process import stacks

T = TypeVar("T")


class _Waiting(greenlet):
    """The greenlet in which plain functions run. `loop` is the loop on which its awaitables are awaited, inside `block`."""

    loop: asyncio.AbstractEventLoop | None = None

    @property
    def __sqlalchemy_greenlet_provider__(self) -> bool:
        """SQLAlchemy's mark of a greenlet whose parent takes awaitables."""
        return self.loop is not None


def run(function: Callable[[], T]) -> T:
    """Call the function in a greenlet in which `block` can be used. Returns what it returns, and raises what it raises."""
    ended: list[tuple[T | None, BaseException | None]] = []

    def call() -> None:
        try:
            ended.append((function(), None))
        except BaseException as error:
            ended.append((None, error))

    waiting = _Waiting(call)
    waiting.gr_context = getcurrent().gr_context
    _of_threads[threading.get_ident()] = waiting
    try:
        _drive(waiting)
    finally:
        _of_threads.pop(threading.get_ident(), None)
    [(result, raised)] = ended
    if raised is not None:
        raise raised
    return result  # type: ignore[return-value]  # None only where the function has returned it


def where(thread: int) -> list[str]:
    """Returns the lines of code at which this thread is (see `stacks.of_thread`). While its greenlet of `run` waits for
    something on another loop, these are the lines of that greenlet. Callable from any thread; never raises."""
    waiting = _of_threads.get(thread)
    frame = None if waiting is None else waiting.gr_frame  # None while the greenlet runs
    return stacks.of_thread(thread) if frame is None else stacks.of_frame(frame)


_of_threads: dict[int, _Waiting] = {}
"""The greenlet in which a thread runs plain functions, by the thread's identifier."""


def _drive(waiting: _Waiting) -> None:
    asked = waiting.switch()
    while not waiting.dead:
        try:
            value = _awaited(waiting, asked)
        except BaseException as error:
            asked = waiting.throw(error)
        else:
            asked = waiting.switch(value)


def _awaited(waiting: _Waiting, awaitable: Awaitable[Any]) -> Any:
    assert waiting.loop is not None
    assert waiting.gr_context is not None
    # In the handler's context: what is awaited is recorded as its own. It is entered already, so a copy has to do.
    return waiting.gr_context.copy().run(asyncio.run_coroutine_threadsafe, _of(awaitable), waiting.loop).result()


async def _of(awaitable: Awaitable[T]) -> T:
    return await awaitable


@contextmanager
def block(manager: AbstractAsyncContextManager[T], loop: asyncio.AbstractEventLoop) -> Iterator[T]:
    """Enter an asynchronous context manager on `loop`, which runs in another thread, for the time of a ``with`` block in a
    plain function. The value may be a SQLAlchemy object whose connection belongs to `loop`.

    Raises what the manager raises, and `InvalidOption` if the function does not run in `run` (but in a thread that a handler
    has started, for example).
    """
    waiting = getcurrent()
    if not isinstance(waiting, _Waiting):
        raise InvalidOption(
            "transaction", "can only be opened in the handler's own thread: this code runs in another one, or in a coroutine"
        )
    before, waiting.loop = waiting.loop, loop
    held = _Held(manager)
    try:
        value = _wait(held.enter())
        try:
            yield value
        except BaseException as error:
            trace, cause = error.__traceback__, error.__cause__
            own = error if isinstance(error, Exception) and not isinstance(error, StopIteration) else _BlockLeft()
            try:
                _wait(held.leave(own))
            except _BlockLeft:
                pass
            except BaseException as other:
                if other is not error:
                    raise
            error.__cause__ = cause
            raise error.with_traceback(trace)  # noqa: B904  it is the very same error
        _wait(held.leave(None))
    finally:
        waiting.loop = before


class _BlockLeft(Exception):
    """Raised in the manager's block in place of an error that must not reach an event loop."""


def _wait(coroutine: Coroutine[Any, Any, T]) -> T:
    result: T = getcurrent().parent.switch(coroutine)
    return result


class _Held:
    """A context manager that one task enters and leaves, since many managers need that."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager

    async def enter(self) -> Any:
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[Any] = loop.create_future()
        self._left: asyncio.Future[BaseException | None] = loop.create_future()
        self._task = loop.create_task(self._hold())
        await asyncio.wait([self._task, self._entered], return_when=asyncio.FIRST_COMPLETED)
        return self._entered.result() if self._entered.done() else await self._task

    async def leave(self, error: BaseException | None) -> None:
        self._left.set_result(error)
        await self._task

    async def _hold(self) -> None:
        async with self._manager as value:
            self._entered.set_result(value)
            error = await self._left
            if error is not None:
                raise error
