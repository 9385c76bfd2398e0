"""`Writer` alone: ends are collected, kept until they are written, and settled once."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from carafe.engine.claim import Claim
from carafe.engine.completions import Completed, End, Released, Succeeded
from carafe.engine.held_claims import Holdings
from carafe.engine.writer import Writer
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Ledger:
    """Writes what it is given, but for the poisoned."""

    def __init__(self) -> None:
        self.batches: list[list[End]] = []
        self.poisoned: set[Any] = set()
        self.completions: list[End] = []
        self.hooked = {"hangs", "hooked"}
        self.hook = asyncio.Event()

    async def write(self, ends: Sequence[End]) -> list[tuple[End, Exception]]:
        if any(end.claim.kind == "hangs" for end in ends):
            await self.hook.wait()
        self.batches.append(list(ends))
        return [(end, KeyError("a fault of ours")) for end in ends if end.id in self.poisoned]

    def completed(self, end: End) -> None:
        self.completions.append(end)


class Bench:
    """A writer, and what it has told others."""

    def __init__(self) -> None:
        self.ledger, self.holdings = Ledger(), Holdings()
        self.settled = 0
        self.returned: list[Released] = []
        self.at_hand: list[Claim] = []
        intake: Any = SimpleNamespace(settle=self._settle)
        returns: Any = SimpleNamespace(released=self.returned.extend, finish=self._nothing)
        none: Any = SimpleNamespace(flush=lambda: 0)
        ledger: Any = self.ledger
        self.writer = Writer(ledger, self.holdings, intake, returns, none, none)
        self.writer.start(self.at_hand)

    def _settle(self, count: int) -> None:
        self.settled += count

    async def _nothing(self) -> None:
        pass

    def claim(self, kind: str = "tests") -> Claim:
        row = {"id": uuid4(), "kind": kind, "fence": 1, "attempt": 0, "max_attempts": 1, "suspect": False}
        claim = Claim(row, b"hint", 0.0)
        self.holdings.claimed([], [claim])
        return claim

    def holds(self, claim: Claim) -> bool:
        return self.holdings.find(claim.id, 1) is claim


async def test_ends_that_come_together_are_written_together() -> None:
    bench = Bench()
    claims = [bench.claim() for _ in range(3)]
    bench.at_hand.append(claims[0])
    for claim in claims[:2]:
        bench.writer.end(Succeeded(claim, 0.1, None))
    bench.at_hand.clear()  # the last one has nothing to wait for
    bench.writer.end(Succeeded(claims[2], 0.1, None))
    assert bench.writer.unwritten == 3
    service = asyncio.create_task(bench.writer.run())
    await eventually(lambda: not bench.writer.unwritten)
    service.cancel()
    assert [len(batch) for batch in bench.ledger.batches] == [3]
    assert bench.settled == 3
    assert not any(bench.holds(claim) for claim in claims)


async def test_an_end_that_cannot_be_written_is_still_held_and_the_others_are_not() -> None:
    bench = Bench()
    poisoned, other = bench.claim(), bench.claim()
    bench.ledger.poisoned = {poisoned.id}
    for claim in (poisoned, other):
        bench.writer.end(Succeeded(claim, 0.1, None))
    await bench.writer.finish()
    # Tried once more at the end, and then left to the rescuer.
    assert [len(batch) for batch in bench.ledger.batches] == [2, 1]
    assert (bench.writer.unwritten, bench.settled) == (1, 1)
    assert (bench.holds(poisoned), bench.holds(other)) == (True, False)


async def test_late_ends_are_tried_until_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.engine.writer.LATE_PAUSES", (0.0, 0.0))
    bench = Bench()
    claim = bench.claim()
    bench.ledger.poisoned = {claim.id}
    bench.writer.end(Succeeded(claim, 0.1, None))
    services = [asyncio.create_task(service()) for service in (bench.writer.run, bench.writer.run_late)]
    await eventually(lambda: len(bench.ledger.batches) >= 3)
    bench.ledger.poisoned.clear()
    await eventually(lambda: not bench.writer.unwritten)
    for service in services:
        service.cancel()
    assert bench.settled == 1
    assert not bench.holds(claim)


async def test_hints_follow_what_was_handed_back() -> None:
    bench = Bench()
    released, succeeded = Released(bench.claim(), 0.0, started=False), Succeeded(bench.claim(), 0.1, None)
    for end in (released, succeeded):
        bench.writer.end(end)
    await bench.writer.finish()
    assert bench.returned == [released]


async def test_what_its_handler_has_completed_is_not_written_again() -> None:
    bench = Bench()
    claim = bench.claim()
    bench.writer.end(Completed(claim, 0.1))
    assert (len(bench.ledger.completions), bench.settled, bench.writer.unwritten) == (1, 1, 0)
    assert not bench.holds(claim)


async def test_a_hook_that_hangs_holds_up_its_own_kind_alone() -> None:
    bench = Bench()
    service = asyncio.create_task(bench.writer.run())
    hanging = [bench.claim("hangs") for _ in range(2)]
    bench.writer.end(Succeeded(hanging[0], 0.1, None))
    await eventually(lambda: bench.writer._writing)
    others = [bench.claim(kind) for kind in ("hooked", "tests", "hooked")]
    for claim in (*others, hanging[1]):
        bench.writer.end(Succeeded(claim, 0.1, None))
    await eventually(lambda: not any(bench.holds(claim) for claim in others))
    assert bench.writer.unwritten == 2
    bench.ledger.hook.set()
    await eventually(lambda: not bench.writer.unwritten)
    assert bench.settled == 5
    service.cancel()


async def test_a_lane_that_is_cancelled_loses_no_end() -> None:
    bench = Bench()
    service = asyncio.create_task(bench.writer.run())
    first, second = bench.claim("hangs"), bench.claim("hangs")
    bench.writer.end(Succeeded(first, 0.1, None))
    await eventually(lambda: bench.writer._writing)
    bench.writer.end(Succeeded(second, 0.1, None))
    for task in list(bench.writer._tasks._tasks):
        task.cancel()
    bench.ledger.hook.set()
    await eventually(lambda: not bench.holds(second))
    service.cancel()
    await bench.writer.finish()
    assert not bench.holds(first)
    assert (bench.settled, bench.writer.unwritten) == (2, 0)
