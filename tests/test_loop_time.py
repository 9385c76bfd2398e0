"""A timeout that counts only the time in which the event loop runs."""

import asyncio

import pytest

from carafe import loop_time

pytestmark = pytest.mark.anyio


async def turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_a_process_that_stood_still_has_not_been_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time
    async with loop_time.timeout(8) as limit:
        await turn(2)
        monkeypatch.setattr(loop, "time", lambda: now() + 60)
        await turn(5)
    assert not limit.expired()


async def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_time, "STEP", 0.01)
    with pytest.raises(TimeoutError):
        async with loop_time.timeout(0.05):
            await asyncio.Event().wait()
