"""A short run of the chaos suite, and a broken build that it must catch. `make chaos` runs it for longer."""

import asyncio
from pathlib import Path

import pytest

from chaos.faults import DemoteRedis, FillRedis, UnblockPops
from chaos.run import run
from chaos.world import World, world

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("forked_places")]

SEED = 20261124


async def test_a_short_chaos_breaks_no_invariant(tmp_path: Path) -> None:
    result = await run(tmp_path, seed=SEED, seconds=20, workers=2, webs=2, rate=30, settle=60)
    assert not result.broken, f"seed {SEED}\n{result.text}"
    assert result.evidence.ledger.jobs > 100
    assert result.faults


async def test_a_build_that_drops_ends_on_an_unforeseen_error_is_caught(tmp_path: Path) -> None:
    result = await run(tmp_path, seed=SEED, seconds=5, workers=1, webs=1, rate=20, settle=60, broken="dropped_ends")
    assert "what has returned is not given back" in {one.name for one in result.broken}, result.text


async def test_a_redis_that_is_demoted_and_filled_breaks_no_invariant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.schedule.FAULTS", (DemoteRedis, UnblockPops, FillRedis))
    result = await run(tmp_path, seed=SEED, seconds=15, workers=2, webs=1, rate=30, settle=150)
    assert not result.broken, f"seed {SEED}\n{result.text}"
    assert result.evidence.ledger.jobs > 100
    assert result.faults


async def test_a_build_that_commits_hooks_apart_is_caught(tmp_path: Path) -> None:
    result = await run(tmp_path, seed=SEED, seconds=5, workers=1, webs=1, rate=20, settle=30, broken="two_transactions")
    assert "a state and its hook are one commit" in {one.name for one in result.broken}, result.text


async def test_an_interrupt_at_the_end_leaves_no_process(tmp_path: Path) -> None:
    seen: list[World] = []

    async def interrupted() -> None:
        async with world(tmp_path, workers=1, webs=0) as made:
            seen.append(made)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(interrupted())
    assert [place.running for place in seen[0].places] == [False]
