"""The states of a job and the table of legal transitions.

This table is binding: the store's statements only make moves that it lists. The diagram in docs/state_machine.md is drawn
from the table, and a test compares the two. Nothing else in the project decides which move is legal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from carafe.jobs.errors import InvalidOption

StateName = Literal["scheduled", "queued", "running", "retrying", "succeeded", "dead", "cancelled"]
"""The name of a state. Every call that takes a `State` accepts its name too."""


class State(StrEnum):
    """The state of a job. The first four are those of live jobs (table ``jobs``), the last three of ended ones (table
    ``jobs_ended``)."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @classmethod
    def stored(cls, text: str) -> "State":
        """The state that a row names with `text`. If this version of Carafe does not know the state, which a later version
        may have written, returns a new `State` with that name."""
        try:
            return cls(text)
        except ValueError:
            unknown = str.__new__(cls, text)
            unknown._name_, unknown._value_ = text, text
            return unknown

    @property
    def ended(self) -> bool:
        """Whether a job in this state has ended. An operator can still retry a dead job."""
        return self in ENDED


def states_of(given: Iterable[State | StateName], option: str = "states") -> frozenset[State]:
    """The states in `given`, which has states or their names, or is a single name. Raises `InvalidOption` for an unknown
    state."""
    names = [given] if isinstance(given, str) else given
    found = []
    for name in names:
        try:
            found.append(State(name))
        except ValueError:
            raise InvalidOption(option, f"{str(name)[:40]!r} is not a state; the states are {', '.join(State)}") from None
    return frozenset(found)


LIVE = frozenset({State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING})
ENDED = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Transition:
    """One legal move from a state to another. ``source`` is None for a new job. ``spends``: whether the move uses up an
    attempt."""

    source: State | None
    target: State
    event: str
    spends: bool = False


TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, State.QUEUED, "enqueue"),
    Transition(None, State.SCHEDULED, "enqueue for later"),
    Transition(State.SCHEDULED, State.QUEUED, "due, or run_now"),
    Transition(State.RETRYING, State.QUEUED, "due, or run_now"),
    Transition(State.QUEUED, State.RUNNING, "claim"),
    Transition(State.RUNNING, State.SUCCEEDED, "returned", spends=True),
    Transition(State.RUNNING, State.RETRYING, "error, attempts left", spends=True),
    Transition(State.RUNNING, State.DEAD, "error, none left, or Discard", spends=True),
    Transition(State.RUNNING, State.CANCELLED, "cancel", spends=True),
    Transition(State.RUNNING, State.SCHEDULED, "snooze"),
    Transition(State.RUNNING, State.QUEUED, "release (drain)"),
    Transition(State.RUNNING, State.QUEUED, "rescue (worker lost)", spends=True),
    Transition(State.RUNNING, State.DEAD, "rescue, none left", spends=True),
    Transition(State.SCHEDULED, State.CANCELLED, "cancel"),
    Transition(State.QUEUED, State.CANCELLED, "cancel"),
    Transition(State.RETRYING, State.CANCELLED, "cancel"),
    Transition(State.DEAD, State.QUEUED, "retry by an operator"),
)


def legal(source: State | None, target: State) -> bool:
    """Whether a job may move from `source` (None: it does not exist yet) to `target`."""
    return any(move.source is source and move.target is target for move in TRANSITIONS)


def mermaid() -> str:
    """The transition table as a Mermaid state diagram, as docs/state_machine.md contains it."""
    lines = ["stateDiagram-v2"]
    for move in TRANSITIONS:
        source = move.source.value if move.source else "[*]"
        lines.append(f"    {source} --> {move.target.value}: {move.event}")
    lines += [f"    {state.value} --> [*]" for state in State if state.ended]
    return "\n".join(lines) + "\n"
