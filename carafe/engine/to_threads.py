"""The threads of ``asyncio.to_thread`` (and ``loop.run_in_executor(None, …)``) of a worker's event loop. They know for which
attempt they work, so that an attempt that waits for such a thread can be shown with what the thread does.

A handler that uses no such thread pays nothing for it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from carafe.engine.captured_logs import running
from carafe.engine.claim import Claim
from carafe.process import stacks

T = TypeVar("T")

TO_THREAD = "carafe to_thread"
"""The words with which the names of these threads begin."""

WAITS = "It waits for a thread of asyncio.to_thread."
THREAD = "a thread of asyncio.to_thread, in which it runs a function:"

_working: dict[int, Claim] = {}
"""The attempt for which a thread works, by the thread's identifier."""


class ToThreads(ThreadPoolExecutor):
    """The pool of these threads."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix=TO_THREAD)

    def submit(self, function: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """Run a function in a thread of the pool, as soon as one is free."""
        claim = running.get()
        if claim is None:
            return super().submit(function, *arguments, **named)
        return super().submit(_working_for, claim, function, *arguments, **named)


def _working_for(claim: Claim, function: Callable[..., T], /, *arguments: Any, **named: Any) -> T:
    thread = threading.get_ident()
    _working[thread] = claim
    try:
        return function(*arguments, **named)
    finally:
        del _working[thread]


def lines_of(claim: Claim) -> list[list[str]]:
    """Returns where each thread is that works for this attempt. Callable from any thread; never raises."""
    return [stacks.of_thread(thread) for thread, owner in list(_working.items()) if owner is claim]


def waits(lines: list[str]) -> bool:
    """Whether the innermost of these lines of a coroutine waits in ``asyncio.to_thread``."""
    return bool(lines) and "/asyncio/threads.py:" in lines[-1]
