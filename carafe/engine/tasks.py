"""Keeps references to tasks until they are done, because the event loop itself has only weak references to them."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """The tasks of one part of the engine, on the engine's loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that runs the coroutine, and return it."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109
        """Wait until all tasks have ended, for `timeout` seconds at most. Cancels none."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
