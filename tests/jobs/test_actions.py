"""The table of operators' actions: it is complete, and agrees with the table of transitions."""

from dataclasses import replace
from typing import cast, get_args

import asyncpg
import pytest

from carafe.jobs.actions import ACTIONS, Action, ActionName, possible, refusal
from carafe.jobs.states import ENDED, LIVE, State, legal
from carafe.store.actions import STATEMENTS
from carafe.store.rehearsal import rehearse
from carafe.store.statement import Statement


def test_each_name_has_its_entry_and_its_statement() -> None:
    assert get_args(ActionName) == tuple(ACTIONS) == tuple(STATEMENTS)
    assert all(name.isidentifier() and name.islower() for name in ACTIONS)


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_an_action_is_for_one_table_and_moves_along_legal_transitions(action: Action) -> None:
    assert action.states <= LIVE or action.states <= ENDED
    for target in action.enters:
        # A running job is asked to stop; its worker ends it.
        assert all(legal(state, target) for state in action.states)


def test_what_is_possible_in_each_state() -> None:
    assert {state: [action.name for action in possible(state, resolved=False)] for state in State} == {
        State.SCHEDULED: ["run_now", "cancel"],
        State.QUEUED: ["cancel"],
        State.RUNNING: ["cancel"],
        State.RETRYING: ["run_now", "cancel"],
        State.SUCCEEDED: [],
        State.DEAD: ["retry", "discard"],
        State.CANCELLED: [],
    }
    assert [action.name for action in possible(State.DEAD, resolved=True)] == ["retry"]


def test_a_refusal_names_what_is_possible() -> None:
    retry = ACTIONS["retry"]
    assert refusal(retry, State.RETRYING, resolved=False) == (
        "retried (retry is for jobs that are dead, possible for this one: run_now, cancel)"
    )
    assert refusal(retry, State.SUCCEEDED, resolved=False) == "retried (retry is for jobs that are dead)"
    cancel = ACTIONS["cancel"]
    assert refusal(cancel, State.DEAD, resolved=False).endswith("possible for this one: retry, discard)")
    assert refusal(cancel, State.DEAD, resolved=True).endswith("possible for this one: retry)")


@pytest.mark.parametrize("name", ACTIONS)
async def test_a_statement_that_does_not_fit_the_schema_is_found_before_it_is_needed(
    carafe_database_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    broken = replace(STATEMENTS[name], numbered=STATEMENTS[name].numbered.replace("j.snoozes", "j.snooze"))
    monkeypatch.setitem(cast(dict[str, Statement], STATEMENTS), name, broken)
    connection = await asyncpg.connect(carafe_database_url)
    try:
        _, refusals = await rehearse(connection)
        assert [refused.statement for refused in refusals] == [name]
    finally:
        await connection.close()
