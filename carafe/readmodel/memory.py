"""For a moment, keeps answers that are the same for every viewer, so that many viewers cost no more than one.

A caller that asks while the answer is being made waits for the same answer. A bounded number of answers is kept: those that
were used last.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")

KEPT = 256
"""The maximum number of answers that are kept."""


@dataclass(slots=True)
class _Answer:
    """One answer. The first call after `renewed_from` starts to make the next answer in the background (`next`). Callers get
    this answer until the next one is made, but not after `until`. Both times are on `time.monotonic`."""

    task: "asyncio.Task[Any]"
    renewed_from: float
    until: float
    next: "asyncio.Task[Any] | None" = None


class Memory:
    """Remembers answers by key."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]], *, renew: float | None = None) -> T:
        """Returns the answer stored under `key` if it is at most `seconds` old. Otherwise calls `ask` for an answer, and
        stores it. An answer's age counts from the call of `ask`. If a stored answer is older than `renew` seconds, it is
        returned, and the next one is made in the background. Raises what `ask` raises; errors are not kept."""
        now = time.monotonic()
        answer = self._answers.get(key)
        if answer is not None and answer.next is not None and answer.next.done():
            if answer.next.cancelled() or answer.next.exception() is not None:
                answer.next = None
            else:
                # Its age counts from when it was asked for.
                answer = self._keep(key, answer.next, answer.renewed_from, seconds, renew)
        if answer is None or now > answer.until:
            answer = self._keep(key, _task(ask), now, seconds, renew)
        elif now > answer.renewed_from and answer.next is None and answer.task.done():
            answer.next, answer.renewed_from = _task(ask), now
        self._answers.move_to_end(key)
        try:
            # One who goes away must not take the answer from the others.
            return cast(T, await asyncio.shield(answer.task))
        except BaseException:
            if answer.task.done() and self._answers.get(key) is answer:
                del self._answers[key]
            raise

    def _keep(self, key: Hashable, task: "asyncio.Task[Any]", asked: float, seconds: float, renew: float | None) -> _Answer:
        answer = _Answer(task, asked + (seconds if renew is None else renew), asked + seconds)
        self._answers[key] = answer
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)
        return answer


async def _run(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()


def _task(ask: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
    task = asyncio.ensure_future(_run(ask))
    # The callers may have gone; then nobody needs the failure.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
