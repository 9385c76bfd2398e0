"""The states of a job and the table of legal transitions.

This table is the contract: the store's statements move rows only along it, the diagram in docs/state_machine.md is drawn
from it, and a test compares the two. Nothing else in the project decides which move is legal.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job stands. The first four are live (table ``jobs``), the last three ended (table ``jobs_ended``)."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @classmethod
    def stored(cls, text: str) -> "State":
        """The state of a row. One that this version does not know (of a later one, say) is read too, under its own name."""
        try:
            return cls(text)
        except ValueError:
            unknown = str.__new__(cls, text)
            unknown._name_, unknown._value_ = text, text
            return unknown

    @property
    def ended(self) -> bool:
        """Whether the job has reached its one end (a dead one can still be retried by an operator)."""
        return self in ENDED


LIVE = frozenset({State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING})
ENDED = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Transition:
    """One legal move. ``source`` is None where the job begins; ``spends`` says that the move costs an attempt."""

    source: State | None
    target: State
    event: str
    spends: bool = False


TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, State.QUEUED, "enqueue"),
    Transition(None, State.SCHEDULED, "enqueue for later"),
    Transition(State.SCHEDULED, State.QUEUED, "due, or run now"),
    Transition(State.RETRYING, State.QUEUED, "due, or run now"),
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
    """The transition table as a Mermaid state diagram, as it stands in docs/state_machine.md."""
    lines = ["stateDiagram-v2"]
    for move in TRANSITIONS:
        source = move.source.value if move.source else "[*]"
        lines.append(f"    {source} --> {move.target.value}: {move.event}")
    lines += [f"    {state.value} --> [*]" for state in State if state.ended]
    return "\n".join(lines) + "\n"
