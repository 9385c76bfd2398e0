"""Runs coroutines for code without an event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, in the caller's thread and without an event loop. Returns its result, or raises
    its error. Raises ``RuntimeError`` if it suspends after all."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        coroutine.close()
    raise RuntimeError("this call needs an event loop, and a SyncClient has none: use Client")


def in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine function `work` on a new event loop in a new thread. Returns its result when both have ended."""

    def run() -> T:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(work())

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()
