"""The table of outcomes agrees with the table of transitions, and the outcome that a handler requests becomes the end of its
attempt."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from carafe.engine import completions
from carafe.engine.claim import Claim
from carafe.engine.completions import ASKED, Cancelled, End, Failed, Outcome, Released, Snoozed, read_outcome
from carafe.jobs import outcomes
from carafe.jobs.errors import InvalidOption
from carafe.jobs.outcomes import Cancel, Discard, Retry, Snooze
from carafe.jobs.states import TRANSITIONS, State

TABLE = [row for row in vars(completions).values() if type(row) is Outcome]


def claim(attempt: int = 0, max_attempts: int = 4) -> Claim:
    """A claimed job."""
    row = {"id": uuid4(), "kind": "tests", "fence": 7, "attempt": attempt, "max_attempts": max_attempts, "suspect": False}
    return Claim(row, b"", 0.0)


def end_of(what: Any) -> End:
    """What the attempt's end is whose handler says so."""
    said = read_outcome(what)
    assert said is not None
    return ASKED[said.word].end(claim(), 0.5, said)


@pytest.mark.parametrize("outcome", TABLE, ids=lambda row: row.label)
def test_an_outcome_is_a_legal_transition_and_spends_what_that_spends(outcome: Outcome) -> None:
    moves = [move for move in TRANSITIONS if move.source is State.RUNNING and move.target is outcome.state]
    assert (outcome.spends == "attempt") in {move.spends for move in moves}


def test_no_two_outcomes_have_one_label() -> None:
    labels = [row.label for row in TABLE]
    assert len(labels) == len(set(labels))


def test_whatever_a_handler_can_say_has_an_end() -> None:
    said = {row for row in vars(outcomes).values() if isinstance(row, type) and issubclass(row, outcomes.Outcome)}
    assert {row.raised for row in ASKED.values()} == said - {outcomes.Outcome}


@pytest.mark.parametrize(
    ("what", "end", "becomes", "spends", "delay"),
    [
        (Retry("later", after=3), Failed, State.RETRYING, "attempt", 3.0),
        (Snooze(timedelta(minutes=1)), Snoozed, State.SCHEDULED, "snooze", 60.0),
        (Discard("never"), Failed, State.DEAD, "attempt", 0.0),
        (Cancel("no more"), Cancelled, State.CANCELLED, "attempt", 0.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, outcomes.Outcome) else "",
)
def test_what_a_handler_says_becomes_its_end(what: Any, end: type[End], becomes: State, spends: str, delay: float) -> None:
    made = end_of(what)
    told = made.settlement()
    assert type(made) is end
    assert (told.state, told.spends, told.delay, told.fence) == (becomes, spends, delay, 7)
    assert (told.cause is None) is (end is not Failed)


def test_a_subclass_need_not_call_ours() -> None:
    class Bare(Discard):
        def __init__(self) -> None:
            pass

    class NoDelay(Snooze):
        def __init__(self) -> None:
            pass

    assert end_of(Bare()).settlement().error == "no reason given"
    with pytest.raises(InvalidOption):
        read_outcome(NoDelay())
    assert read_outcome(outcomes.Outcome()) is None
    assert read_outcome(ValueError()) is None


@pytest.mark.parametrize(("attempt", "final", "label"), [(0, False, "retrying"), (3, False, "dead"), (0, True, "dead")])
def test_whether_an_attempt_is_left_is_for_the_row_to_say(attempt: int, final: bool, label: str) -> None:
    failed = Failed(claim(attempt), 0.1, "error", "ValueError", "no", None, 1.0, final)
    assert failed.outcome.label == label
    assert failed.settlement().state is (State.DEAD if final else State.RETRYING)


def test_what_was_never_begun_is_no_release() -> None:
    assert Released(claim(), 0.0, started=False).settlement().spends is None
    assert Released(claim(), 0.1).settlement().spends == "release"
