"""Ends tasks that would run forever.

A single cancellation may not end a task: if it comes while the Redis client connects, the client takes the cancellation for
a connection error and ignores it, and the task goes on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 0.2
"""Seconds after which a task that has not ended yet is cancelled again."""


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks, and return when all of them have ended. Exceptions that the tasks raise are ignored."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody warns of it
