"""Runs blocking calls in threads of the engine's own, since handlers may occupy all the threads of ``asyncio.to_thread``."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 4
"""The number of helper threads. They push hints back to Redis, and they wait for the end of services that have a thread of
their own."""


class Aside:
    """The helper threads of one worker's engine."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="carafe helper")

    async def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call the function in a helper thread and wait for its end. Raises what the function raises."""
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except RuntimeError:  # the system gives no more threads: better here than not at all
            function(*arguments)
        else:
            await waiting

    def close(self) -> None:
        """End the threads. Blocks until the calls that still run have returned."""
        self._threads.shutdown()
