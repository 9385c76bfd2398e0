"""The table of what an operator can do to jobs. Routes, commands, buttons, bulk actions and the audit are made from it.

An action consists of an entry in this table and of a SQL statement, ``carafe/store/sql/NAME.sql``. Guarantee: the action has
the same name in the HTTP path, on the command line, in a bulk action and in the audit.
Must never: say how a job is changed. The SQL statement does that, according to the table of transitions
(`carafe.jobs.states`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from carafe.jobs.states import ENDED, LIVE, State

ActionName = Literal["retry", "run_now", "cancel", "discard"]

RATED_ABOVE = 1_000
"""A bulk action on more jobs than this gets the rate `bulk_rate` of its action, if the caller gives no rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action of an operator: the jobs on which it is possible, the states to which it moves them, and its texts for
    people."""

    name: ActionName
    states: frozenset[State]
    """The states in which the action is possible for a job. Either all are states of live jobs or all are states of ended
    jobs, because a bulk action works on a single table."""
    enters: tuple[State, ...] = ()
    """The states to which the action moves a job. The hooks for the new state then run. A running job is not moved: its
    worker is asked to end it."""
    unresolved: bool = False
    """Whether the action is only possible for those dead jobs that nobody has discarded."""
    reason_needed: str = ""
    """If the action requires a reason: what the reason is used for. Empty if it requires none."""
    bulk_rate: float | None = None
    """The rate, in jobs a second, of a bulk action on more than `RATED_ABOVE` jobs whose caller gives no rate. None: no
    limit."""
    label: str
    """The text on the action's button."""
    done: str
    """The participle of the action's verb, for the sentences "it cannot be …" and "… by ana"."""
    summary: str
    """One line that describes the action in a list of commands or routes, without a full stop."""
    description: str
    """What the action does to a job, in one or two sentences."""
    question: str = ""
    """The question that a page asks a person to confirm before the action is done to a job that is not running. Empty: the
    button acts at once."""
    answer: str
    """What a page says once the action is done."""
    danger: bool = False
    """Whether the action's button looks like a warning."""

    @property
    def of_ended(self) -> bool:
        """Whether the action is for jobs that have ended."""
        return self.states <= ENDED

    @property
    def revives(self) -> bool:
        """Whether the action turns ended jobs into live jobs again. No other live job may then hold their unique keys."""
        return self.of_ended and not LIVE.isdisjoint(self.enters)


ACTIONS: Final[Mapping[ActionName, Action]] = {
    action.name: action
    for action in (
        Action(
            name="retry",
            states=frozenset({State.DEAD}),
            enters=(State.QUEUED,),
            # What caused the deaths may not stand all of them at once.
            bulk_rate=50.0,
            label="Retry",
            done="retried",
            summary="Retry a dead job",
            description="It is queued again, with as many additional attempts as a new job of its kind has.",
            answer="It runs again.",
        ),
        Action(
            name="run_now",
            states=frozenset({State.SCHEDULED, State.RETRYING}),
            enters=(State.QUEUED,),
            label="Run now",
            done="run at once",
            summary="Run a scheduled or retrying job at once",
            description="It is queued now instead of when it is due.",
            answer="It runs as soon as a slot is free.",
        ),
        Action(
            name="cancel",
            states=LIVE,
            enters=(State.CANCELLED,),
            label="Cancel",
            done="cancelled",
            summary="Cancel a job",
            description="A waiting job ends at once; a running job is asked to stop, and ends when its worker stops it.",
            question="It ends at once, and does not run.",
            answer="Cancelled.",
            danger=True,
        ),
        Action(
            name="discard",
            states=frozenset({State.DEAD}),
            unresolved=True,
            reason_needed="it is stored with the job",
            label="Discard",
            done="discarded",
            summary="Discard a dead job",
            description="It counts as resolved and no longer among the dead. You can still find and retry it until its "
            "retention ends.",
            question="It counts as resolved. You can still find it until its retention ends.",
            answer="Discarded: it counts as resolved, and you can still find it.",
            danger=True,
        ),
    )
}


def possible(state: State, *, resolved: bool) -> tuple[Action, ...]:
    """The actions that are possible for a job in this state. `resolved`: the job is dead, and an operator has discarded
    it."""
    return tuple(action for action in ACTIONS.values() if state in action.states and not (action.unresolved and resolved))


def listed(states: Iterable[State]) -> str:
    """The names of these states as one text, in the order of a job's life."""
    wanted = set(states)
    return ", ".join(state for state in State if state in wanted)


def refusal(action: Action, state: State, *, resolved: bool) -> str:
    """The words after "it cannot be …", for a job on which the action is not possible in its present `state`. They say which
    actions are possible instead."""
    others = ", ".join(other.name for other in possible(state, resolved=resolved))
    instead = f", possible for this one: {others}" if others else ""
    return f"{action.done} ({action.name} is for jobs that are {listed(action.states)}{instead})"
