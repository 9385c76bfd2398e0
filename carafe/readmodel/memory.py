"""Answers that are the same for everybody, kept for a moment: many viewers cost what one costs.

Whoever asks while an answer is being made waits for that one. Keeps a bounded number of answers, the ones used last.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")

KEPT = 256
"""Answers at most."""


@dataclass(slots=True)
class _Answer:
    """One answer, and from when on a new one is asked for; it is still given until that is there, or `until`.

    Times on `time.monotonic`."""

    task: "asyncio.Task[Any]"
    renewed_from: float
    until: float
    next: "asyncio.Task[Any] | None" = None


class Memory:
    """Answers by key."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()

    async def get(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[T]], *, renew: float | None = None) -> T:
        """The answer under `key`, at most `seconds` old as of when it was asked for. Raises what `ask` raises; that is not
        kept. From `renew` seconds on the next answer is made in the background, and nobody waits for it."""
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
    # Whoever asked may have gone; a failure then concerns nobody.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
