"""Answers that all viewers share are made once and renewed in the background; a failure is never kept."""

import asyncio

import pytest

from carafe.readmodel.memory import Memory
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Asked:
    """Counts how often it is asked; each answer waits for `go`."""

    def __init__(self) -> None:
        self.times = 0
        self.go = asyncio.Event()
        self.fault: Exception | None = None

    async def __call__(self) -> int:
        self.times += 1
        times = self.times
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return times


async def test_those_who_ask_together_share_one_answer() -> None:
    memory, asked = Memory(), Asked()
    together = [asyncio.ensure_future(memory.get("key", 60, asked)) for _ in range(5)]
    await eventually(lambda: asked.times == 1)
    asked.go.set()
    assert await asyncio.gather(*together) == [1] * 5
    assert await memory.get("other", 60, asked) == 2


async def test_one_who_goes_away_does_not_take_it_from_the_others() -> None:
    memory, asked = Memory(), Asked()
    first, second = [asyncio.ensure_future(memory.get("key", 60, asked)) for _ in range(2)]
    await eventually(lambda: asked.times == 1)
    first.cancel()
    asked.go.set()
    assert await second == 1


async def test_a_failure_is_not_kept() -> None:
    memory, asked = Memory(), Asked()
    asked.go.set()
    asked.fault = ValueError("away")
    with pytest.raises(ValueError, match="away"):
        await memory.get("key", 60, asked)
    asked.fault = None
    assert await memory.get("key", 60, asked) == 2


async def test_what_is_too_old_is_asked_for_again() -> None:
    memory, asked = Memory(), Asked()
    asked.go.set()
    assert await memory.get("key", -1, asked) == 1
    assert await memory.get("key", -1, asked) == 2


async def test_nobody_waits_for_an_answer_that_is_renewed() -> None:
    memory, asked = Memory(), Asked()
    asked.go.set()
    assert await memory.get("key", 60, asked, renew=0) == 1
    asked.go.clear()
    assert await memory.get("key", 60, asked, renew=0) == 1  # and has the next one asked for
    await eventually(lambda: asked.times == 2)
    assert await memory.get("key", 60, asked, renew=0) == 1
    assert asked.times == 2
    asked.go.set()

    async def renewed() -> bool:
        return await memory.get("key", 60, asked, renew=60) == 2

    await eventually(renewed)


async def test_a_renewal_that_fails_leaves_the_answer_and_is_tried_again() -> None:
    memory, asked = Memory(), Asked()
    asked.go.set()
    assert await memory.get("key", 60, asked, renew=0) == 1
    asked.fault = ValueError("away")
    await memory.get("key", 60, asked, renew=0)
    await eventually(lambda: asked.times == 2)

    async def again() -> bool:
        assert await memory.get("key", 60, asked, renew=0) == 1
        return asked.times >= 3

    await eventually(again)
