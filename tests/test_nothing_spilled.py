"""The scenarios of `chaos.scenarios`: something is killed, flushed or restarted in the middle, and nothing is spilled.

What they measure is printed (``pytest -s``), never asserted.
"""

from collections import Counter
from pathlib import Path

import pytest

from chaos.scenarios import JOBS, Outcome, backlog_wiped, flushed, killed, poisoned, redis_restarted, rolled, small

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("forked_places")]


def tell(outcome: Outcome) -> Outcome:
    print(outcome)  # noqa: T201  what was measured
    return outcome


async def test_a_worker_is_killed_and_all_is_done(tmp_path: Path) -> None:
    async with small(tmp_path, workers=1, slots=2) as world:
        outcome = tell(await killed(world))
    assert outcome.states == Counter({"chaos.plain succeeded": JOBS})
    # What it had claimed may have run twice, nothing else: its two slots, and the little that it took ahead.
    assert all(count <= 2 for count in outcome.begins.values())
    assert sum(count > 1 for count in outcome.begins.values()) <= 4


async def test_redis_is_flushed_and_all_is_done_once(tmp_path: Path) -> None:
    async with small(tmp_path, workers=1, slots=2) as world:
        outcome = tell(await flushed(world))
    assert outcome.states == Counter({"chaos.plain succeeded": JOBS})
    assert set(outcome.begins.values()) == {1}
    assert not outcome.causes


async def test_a_backlog_is_wiped_and_few_hints_are_pushed_twice(tmp_path: Path) -> None:
    async with small(tmp_path, workers=1, slots=5) as world:
        outcome = tell(await backlog_wiped(world, jobs=5_000))
    assert outcome.states == Counter({"chaos.plain succeeded": 5_000})
    assert set(outcome.begins.values()) == {1}
    assert outcome.dropped < 5_000 * 0.02


async def test_all_workers_are_replaced_under_load_and_no_attempt_is_spent(tmp_path: Path) -> None:
    async with small(tmp_path, workers=3, slots=5) as world:
        outcome = tell(await rolled(world))
    assert set(outcome.states) == {"chaos.plain succeeded", "chaos.long succeeded"}
    assert not outcome.causes
    assert outcome.codes == [0, 0, 0]


async def test_redis_is_restarted_again_and_again_and_every_worker_consumes(tmp_path: Path) -> None:
    async with small(tmp_path, workers=3, slots=2) as world:
        outcome = tell(await redis_restarted(world, times=5))
    assert set(outcome.states) == {"chaos.plain succeeded"}
    assert not outcome.causes


async def test_a_job_that_crashes_its_worker_dies_alone(tmp_path: Path) -> None:
    async with small(tmp_path, workers=2, slots=5) as world:
        outcome = tell(await poisoned(world))
    assert outcome.states == Counter({"chaos.poisoned dead": 1, "chaos.long succeeded": 12, "chaos.plain succeeded": 40})
    # Its own crashes are the only failures: nobody else was charged.
    assert sum(outcome.causes.values()) == 4
    assert all(cause.startswith("chaos.poisoned ") for cause in outcome.causes)
