"""`Arrivals` alone: whatever happens to a claim statement, its hints are claimed, given back, or counted as dropped."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from carafe.engine.arrivals import STUCK, STUCK_TICKS, Arrivals
from carafe.engine.claim import Claim
from carafe.engine.completions import End, Released
from carafe.engine.held_claims import Holdings
from carafe.engine.intake import Intake
from carafe.engine.ledger import Hinted, Left
from carafe.engine.runtimes import Pace
from carafe.engine.slot import Slot
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Bench:
    """Arrivals, with a ledger that claims as the test says."""

    def __init__(self, claim: Callable[[Sequence[Hinted]], Any], *, version: int = 1) -> None:
        self.offered: list[Claim] = []
        self.ends: list[End] = []
        self.pushed: list[bytes] = []
        self.deferred: list[Hinted] = []
        self.counts: Counter[str] = Counter()
        self.draining = False
        slots = [Slot(index) for index in range(5)]
        pace = Pace(5)
        for _ in range(200):
            pace.observe("known", 1e-5)
        self.intake = Intake(
            slots, pace, ["known"], self.counts, unwritten=lambda: 0, without_postgres=lambda: False, wake=lambda: None
        )

        async def claimed(batch: Sequence[Hinted]) -> Any:
            return claim(batch)

        ledger: Any = SimpleNamespace(claim=claimed, doubts=0)
        self.ready: list[Claim] = []
        runner: Any = SimpleNamespace(
            offer=self._offer,
            ready=self.ready,
            begun=0,
            running=list,
            withdraw=self._withdraw,
        )
        self.runner = runner
        writer: Any = SimpleNamespace(end=self.ends.append)
        returns: Any = SimpleNamespace(push=self.pushed.extend, defer=self.deferred.extend)
        self.arrivals = Arrivals(
            self.intake,
            ledger,
            runner,
            writer,
            Holdings(),
            returns,
            pace,
            self.counts,
            {"known": version},
            lambda: self.draining,
        )

    def _offer(self, claims: Sequence[Claim]) -> list[Claim]:
        self.offered += claims
        return []

    @property
    def arrived(self) -> int:
        """Hints of which it is known what becomes of them."""
        return len(self.offered) + len(self.ends) + len(self.deferred) + self.counts["hints dropped"] + len(self.pushed)

    def _withdraw(self) -> list[Claim]:
        claims = list(self.ready)
        self.ready.clear()
        return claims

    async def take(self, hints: Sequence[Hinted]) -> None:
        """Let these arrive, and wait until they have been dealt with."""
        self.arrivals.start()
        assert len(self.arrivals.take(hints)) == 0
        service = asyncio.create_task(self.arrivals.run())
        await eventually(lambda: self.arrived == len(hints))
        service.cancel()


def hints(count: int, kind: str = "known") -> list[Hinted]:
    return [Hinted(uuid4(), kind, b"hint") for _ in range(count)]


def row(hint: Hinted, version: int = 1) -> dict[str, Any]:
    return {"id": hint.id, "kind": hint.kind, "fence": 1, "attempt": 0, "suspect": False, "version": version}


def all_of(batch: Sequence[Hinted]) -> Any:
    return [row(hint) for hint in batch], []


def _raise(error: Exception) -> Any:
    raise error


async def test_what_was_claimed_is_offered_in_the_order_of_its_creation() -> None:
    bench = Bench(all_of)
    given = hints(4)
    await bench.take(given)
    assert [claim.id for claim in bench.offered] == sorted(hint.id for hint in given)
    assert (bench.ends, bench.intake.in_hand) == ([], 4)


async def test_hints_of_jobs_that_are_no_longer_queued_are_dropped() -> None:
    bench = Bench(lambda batch: ([row(batch[0])], []))
    await bench.take(hints(3))
    assert len(bench.offered) == 1
    assert (bench.counts["hints dropped"], bench.intake.in_hand) == (2, 1)


async def test_what_is_left_to_others_goes_back() -> None:
    bench = Bench(lambda batch: _raise(Left()))
    await bench.take(hints(3))
    assert bench.pushed == [b"hint"] * 3
    assert (bench.counts["hints pushed back"], bench.intake.in_hand, bench.arrivals.doubts) == (3, 0, 0)


async def test_an_error_that_nobody_foresaw_is_a_doubt() -> None:
    bench = Bench(lambda batch: _raise(KeyError("a fault of ours")))
    await bench.take(hints(3))
    assert (bench.counts["hints dropped"], bench.intake.in_hand, bench.arrivals.doubts) == (3, 0, 1)


async def test_kinds_and_versions_of_others_are_left_to_them() -> None:
    bench = Bench(lambda batch: ([row(hint, version=2) for hint in batch], []))
    strange = hints(2, "unknown")
    await bench.take([*hints(1), *strange])
    assert bench.deferred == strange
    assert [type(end) for end in bench.ends] == [Released]
    assert bench.offered == []


@pytest.mark.parametrize("why", ["draining", "lost"])
async def test_a_claim_that_comes_too_late_is_given_back(why: str) -> None:
    def late(batch: Sequence[Hinted]) -> Any:
        if why == "draining":
            bench.draining = True
        else:
            bench.arrivals.declared_lost()
        return all_of(batch)

    bench = Bench(late)
    await bench.take(hints(2))
    assert [(type(end), end.outcome.label) for end in bench.ends] == [(Released, "returned")] * 2
    assert bench.offered == []


@pytest.mark.parametrize(("begun", "back"), [(0, True), (1000, False)])
async def test_claims_that_no_slot_begins_go_back(begun: int, back: bool) -> None:
    """The rate of begun jobs decides: a process that gets no CPU is not stuck."""
    bench = Bench(all_of)
    bench.ready += [Claim(row(hint), b"hint", 0.0) for hint in hints(3)]
    for tick in range(STUCK_TICKS):
        bench.arrivals.give_back_stuck(tick * STUCK / STUCK_TICKS)
        bench.runner.begun += begun
    assert bench.ends == []
    bench.arrivals.give_back_stuck(STUCK)
    assert len(bench.ends) == (3 if back else 0)
