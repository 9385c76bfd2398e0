"""How tasks that run for ever are ended.

A cancellation can be lost: the Redis client takes one that comes while it connects for an error of the connection that it
ignores, and the task goes on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 0.2
"""Seconds after which a task that has not ended is cancelled once more."""


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks, and return when all of them have ended, whatever they raised."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN)
        for task in done:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody warns of it
