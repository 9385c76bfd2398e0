"""Waiting for what happens elsewhere: a condition is asked again until it holds, or the deadline passes.

For state that gives no signal of its own (another process, a row, a list's length). Where there is an event, wait on
that.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_INTERVAL = 0.01
"""Seconds between two looks at least."""

_REST = 5.0
"""And this many times what the last look took, so that a wait leaves the processor to what is waited for."""

_PATIENCE = 0.1
"""And this part of the time that was waited already: who has waited for seconds can wait for tenths more."""

_SELDOM = 0.25
"""But no more than this."""


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = 10.0) -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = 10.0) -> T: ...
async def eventually(check: Callable[[], Any], within: float = 10.0) -> Any:
    """The first true value of `check`, a plain or a coroutine function, asked until `within` seconds are over.

    Raises AssertionError at the deadline, with the last value. What `check` raises is raised at once, except an
    AssertionError, which counts as not yet.
    """
    start = time.monotonic()
    deadline = start + within
    while True:
        last: object
        began = time.monotonic()
        try:
            answer = check()
            value = await answer if inspect.isawaitable(answer) else answer
            if value:
                return value
            last = value
        except AssertionError as not_yet:
            last = not_yet
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {within:g} s: {inspect.getsource(check).strip()}; last: {last!r}")
        await asyncio.sleep(min(max(_INTERVAL, _REST * (now - began), _PATIENCE * (now - start)), _SELDOM))
