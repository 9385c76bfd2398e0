"""How often a worker's heartbeat is sent."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from carafe.engine.heartbeat import NEAREST, Heartbeat


async def test_beats_that_are_asked_for_without_end_keep_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = SimpleNamespace(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"))
    nobody: Any = SimpleNamespace()
    heartbeat = Heartbeat(settings, nobody, nobody, lambda: False)
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    heartbeat._now = asyncio.Event()
    for since, expected in ((0.0, NEAREST), (2 * NEAREST, 0.0)):
        heartbeat._now.set()  # by a word on a channel that anybody may write to
        now = time.monotonic()
        heartbeat.tried = now - since
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", wait)
            patched.setattr(time, "monotonic", lambda now=now: now)
            await heartbeat._pause(60)
        assert waited.pop() == pytest.approx(expected)
        assert not heartbeat._now.is_set()
