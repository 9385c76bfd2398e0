"""The threads that plain functions run in.

Unlike those of ``concurrent.futures`` they never hold up the end of the process: Python waits for those at exit, and a
handler that does not return would keep a drained worker alive until it is killed.
"""

import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

import structlog

log = structlog.stdlib.get_logger("carafe.runner")


class Work:
    """One call of a function, in a context of its own. `done`: it has returned, or its thread was ended under it."""

    __slots__ = ("_arguments", "_context", "_done", "_function")

    def __init__(self, context: Context, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._context, self._function, self._arguments = context, function, arguments
        self._done = False

    def done(self) -> bool:
        """Whether it is over."""
        return self._done

    def stop(self) -> None:
        """Left undone: a function in a thread cannot be stopped, it sees it in ``ctx.cancelled``."""

    def run(self) -> None:
        """Call it. Never raises."""
        try:
            self._context.run(self._function, *self._arguments)
        except BaseException:  # the function ends its attempt itself, whatever its handler raises: this is our own fault
            log.exception("a thread of handlers has failed")
        finally:
            self._done = True
            # Nothing of the job may outlive it here.
            del self._context, self._function, self._arguments


class Threads:
    """At most `count` daemon threads, started as they are needed. `submit` and `stop` from one thread only."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Work | None] = SimpleQueue()

    def submit(self, context: Context, function: Callable[..., None], *arguments: Any) -> Work:
        """Run the function in a thread, as soon as there is one, in this context. It is to raise nothing.

        Raises `RuntimeError` when the system gives no more threads: then the function will not run.
        """
        if not self._idle.acquire(blocking=False) and self._started < self._count:
            threading.Thread(target=self._run, name=f"{self._name} {self._started}", daemon=True).start()
            self._started += 1
        work = Work(context, function, arguments)
        self._work.put(work)
        return work

    def stop(self) -> None:
        """Let the threads end as they return; waits for none."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work.run()
            del work
            self._idle.release()
