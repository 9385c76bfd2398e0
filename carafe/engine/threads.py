"""The threads that plain functions run in.

Unlike those of ``concurrent.futures`` they never hold up the end of the process: Python waits for those at exit, and a
handler that does not return would keep a drained worker alive until it is killed.
"""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

Work = tuple[Future[Any], contextvars.Context, Callable[..., Any], tuple[Any, ...]]


class Threads:
    """At most `count` daemon threads, started as they are needed. `submit` and `stop` from one thread only."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Work | None] = SimpleQueue()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run the function in a thread, as soon as there is one, in a copy of this context; the future has its result or
        what it raised."""
        future: Future[Any] = Future()
        self._work.put((future, contextvars.copy_context(), function, arguments))
        if not self._idle.acquire(blocking=False) and self._started < self._count:
            threading.Thread(target=self._run, name=f"{self._name} {self._started}", daemon=True).start()
            self._started += 1
        return future

    def stop(self) -> None:
        """Let the threads end as they return; waits for none."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, context, function, arguments = work
            if future.set_running_or_notify_cancel():
                try:
                    result = context.run(function, *arguments)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            # Nothing of the job may outlive it here while the thread waits for the next.
            del work, future, context, function, arguments
            self._idle.release()
