"""How many hints a worker takes: hints for which it had room are not pushed back."""

from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import pytest

from carafe.engine.intake import MAX_POP, Intake
from carafe.engine.ledger import Hinted
from carafe.engine.runtimes import FLOOR, HORIZON, Pace
from carafe.engine.slot import Slot

SLOTS = 5


def known_pace(seconds: float) -> Pace:
    """The pace of a worker that has run many jobs of `seconds`."""
    pace = Pace(SLOTS)
    for _ in range(200):
        pace.observe("noop", seconds)
    return pace


def hints(count: int) -> list[Hinted]:
    """This many hints."""
    return [Hinted(uuid4(), "noop", b"") for _ in range(count)]


def opened(pace: Pace) -> Intake:
    """An intake that takes."""
    return with_postgres(pace, lambda: False)


def with_postgres(pace: Pace, away: Callable[[], bool]) -> Intake:
    """An intake that takes while Postgres is not `away`, of a worker whose slots are free and whose ends are all written."""
    slots = [Slot(index) for index in range(SLOTS)]
    intake = Intake(slots, pace, ["noop"], Counter(), unwritten=lambda: 0, without_postgres=away, wake=lambda: None)
    intake.closed = False
    return intake


@pytest.mark.parametrize("seconds", [1e-6, 0.0003, 0.0007, 0.003, 0.011, 0.04])
def test_what_room_was_given_for_is_taken_whole(seconds: float) -> None:
    intake = opened(known_pace(seconds))
    pops = 0
    while count := intake.room():
        assert len(intake.take(hints(count))) == 0
        pops += 1
    assert pops > 0
    assert intake.in_hand >= SLOTS


def test_one_run_that_was_held_up_is_not_taken_for_the_pace_of_its_kind() -> None:
    """Another thread has Python's lock for some milliseconds now and then, whatever the job does."""
    pace = known_pace(1e-5)
    pace.observe("noop", 0.005)
    assert pace.cost("noop") == FLOOR * SLOTS
    assert opened(pace).room() == MAX_POP


def test_runs_that_are_longer_than_before_count_within_a_few() -> None:
    pace = known_pace(1e-5)
    for _ in range(80):
        pace.observe("noop", 0.005)
    assert 0.004 < pace.cost("noop") <= 0.005


def test_a_much_longer_run_counts_at_once() -> None:
    pace = known_pace(1e-5)
    pace.observe("noop", HORIZON)
    assert pace.cost("noop") == HORIZON


def test_nothing_is_taken_that_postgres_could_not_be_asked_for() -> None:
    away = False
    intake = with_postgres(known_pace(0.001), lambda: away)
    assert intake.room() > 0
    away = True
    assert intake.room() == 0
    # Nor kept, when a pop that was under way brings it.
    assert len(intake.take(hints(3))) == 3
