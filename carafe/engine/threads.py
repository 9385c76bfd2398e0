"""The threads in which handlers that are plain functions run.

These threads never hold up the end of the process. Python waits at exit for the threads of ``concurrent.futures``, so if
handlers ran in such threads, one that does not return would keep a drained worker from exiting.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

from carafe.engine import borrowed_loop
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.runner")


class Work:
    """One call of a function. The call has a copy of a context for itself."""

    __slots__ = ("_arguments", "_context", "_done", "_function", "_thread")

    def __init__(self, context: Context, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._context, self._function, self._arguments = context, function, arguments
        self._done = False
        self._thread = 0

    def done(self) -> bool:
        """Returns whether the call is over. It is over when the function has returned or raised."""
        return self._done

    def stop(self) -> None:
        """Does nothing: a function in a thread cannot be stopped. The handler itself can read in ``ctx.cancelled`` that it
        is to stop."""

    def where(self) -> list[str]:
        """Returns the lines of code at which the call is now; an empty list if it does not run. Callable from any thread;
        never raises."""
        return borrowed_loop.where(self._thread) if self._thread and not self._done else []

    def run(self) -> None:
        """Call the function. Never raises."""
        self._thread = threading.get_ident()
        try:
            self._context.run(self._function, *self._arguments)
        except BaseException:  # the function ends its attempt whatever its handler raises, so this is our own bug
            log.exception("a thread of handlers has failed")
        finally:
            self._done = True
            # Nothing of the job may outlive it here.
            del self._context, self._function, self._arguments


class Threads:
    """At most `count` daemon threads, which start when they are needed. Only one thread may call `submit` and `stop`."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Work | None] = SimpleQueue()

    def submit(self, context: Context, function: Callable[..., None], *arguments: Any) -> Work:
        """Run the function in this context, as soon as a thread is free. The function must not raise. Returns a `Work`,
        which stands for the call.

        Raises `RuntimeError` if the operating system cannot start another thread; then the function does not run.
        """
        if not self._idle.acquire(blocking=False) and self._started < self._count:
            name = f"{self._name} {self._started}"
            # In a greenlet for as long as the thread lives, so that transactions of handlers cost the others nothing.
            threading.Thread(target=borrowed_loop.run, args=(self._run,), name=name, daemon=True).start()
            self._started += 1
        work = Work(context, function, arguments)
        self._work.put(work)
        return work

    def stop(self) -> None:
        """Make each thread end when its present call has returned. Does not wait for that."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work.run()
            del work
            _forget_loop()
            self._idle.release()


def _forget_loop() -> None:
    """Remove the event loop that a handler may have set for this thread: it may be closed when the next handler runs
    here."""
    try:
        asyncio.set_event_loop(None)
    except BaseException:
        log.exception("the event loop that a handler has set for its thread cannot be removed")
