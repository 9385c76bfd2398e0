"""How attempts end: the table of outcomes, a class for each way to end, and the outcomes that handlers request.

A row of the table (an `Outcome`) says which state the job enters, whether the end spends an attempt, and under which name
log, metrics and trace report it. finish.sql writes the end of a success; settle.sql writes every other end, from its
`Settlement`. A new outcome needs four things: the class that handlers raise (`carafe.jobs.outcomes`), a row of the table, an
entry in `ASKED` (the outcomes that handlers may request), and a public name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple
from uuid import UUID

from carafe.engine.claim import Claim
from carafe.jobs.delays import delay_of
from carafe.jobs.outcomes import Cancel, Discard, Retry, Snooze
from carafe.jobs.outcomes import Outcome as Raised
from carafe.jobs.states import State
from carafe.telemetry.job_log import COMPLETED, Event
from carafe.texts import clean, reason_of

MAX_REASON = 1_000
"""The maximum number of characters that are kept of the reason for a cancel."""

ATTEMPT_FAILS = "the attempt fails"
"""What the log says of an attempt whose success, or whose claim, is undone because a hook failed."""

BY_AN_OPERATOR = "cancelled by an operator"
"""The error text of a job that was cancelled while it ran. settle.sql has the same text."""

Spends = Literal["attempt", "snooze", "release"]


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One way for an attempt to end.

    `name` is the outcome's name in counts and spans, and `state` is the state that the job enters. `spends` says which of
    the job's counters the end increases (attempts, snoozes or releases); None means none of them. `event` is the event of
    the line in the job log; None means no line. `metric` is the label in ``carafe_jobs_finished_total``; if empty, `name` is
    used. `timed` says whether the attempt's run time counts as typical of its kind. It does not if the attempt was stopped
    from outside or never began."""

    name: str
    state: State
    spends: Spends | None
    event: Event | None
    metric: str = ""
    timed: bool = False

    @property
    def label(self) -> str:
        return self.metric or self.name


SUCCEEDED = Outcome("succeeded", State.SUCCEEDED, "attempt", COMPLETED, timed=True)
RETRYING = Outcome("retrying", State.RETRYING, "attempt", Event("job retried", "WARNING"), timed=True)
DEAD = Outcome("dead", State.DEAD, "attempt", Event("job failed", "ERROR"), timed=True)
CANCELLED = Outcome("cancelled", State.CANCELLED, "attempt", Event("job cancelled", "INFO"))
SNOOZED = Outcome("snoozed", State.SCHEDULED, "snooze", Event("job snoozed", "INFO"))
RELEASED = Outcome("released", State.QUEUED, "release", Event("job released", "INFO"), metric="drained")
RETURNED = Outcome("released", State.QUEUED, None, None, metric="returned")

STALE = Event("end not written: the job is no longer this worker's", "WARNING")
"""The event of the log line for an end that Postgres did not take, because its fence is no longer the job's."""

INSTEAD: Mapping[State, Outcome] = {row.state: row for row in (RETRYING, DEAD, CANCELLED)}
"""Outcomes that may occur although the worker asked for another, by the state that the job entered. Postgres decides so if
no attempt was left or a cancel had been requested."""


class Settlement(NamedTuple):
    """The input of settle.sql for the end of one attempt. `state` is the state that the job enters. `spends` is the same as
    in `Outcome`. `cause` is None unless the attempt failed. `delay` is the seconds until the job runs again. `traced`
    replaces the job's trace context; None leaves it unchanged.
    """

    id: UUID
    fence: int
    kind: str
    state: State
    spends: Spends | None
    traced: str | None = None
    cause: str | None = None
    error_class: str | None = None
    error: str | None = None
    traceback: str | None = None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """The end of an attempt. There is a subclass for each way to end. `seconds` is how long the attempt ran."""

    claim: Claim
    seconds: float

    @property
    def id(self) -> UUID:
        return self.claim.id

    @property
    def outcome(self) -> Outcome:
        """The outcome that the worker asks for. Postgres may decide otherwise (see `INSTEAD`)."""
        raise NotImplementedError

    def settlement(self, **values: Any) -> Settlement:
        """Returns this end as the input of settle.sql. A subclass passes its own fields as `values`."""
        claim, outcome = self.claim, self.outcome
        # Each traced attempt leaves its span id for the next.
        traced = None if claim.traced is None else claim.traced.next
        told = Settlement(claim.id, claim.fence, claim.kind, outcome.state, outcome.spends, traced)
        return told._replace(**values) if values else told


@dataclass(frozen=True, slots=True)
class Succeeded(End):
    """The handler has returned. `result` is its value as JSON text, or None."""

    result: str | None
    outcome: ClassVar[Outcome] = SUCCEEDED


@dataclass(frozen=True, slots=True)
class Completed(End):
    """The job succeeded in a transaction of its own handler. That transaction has written the job's end already."""

    outcome: ClassVar[Outcome] = SUCCEEDED


@dataclass(frozen=True, slots=True)
class Cancelled(End):
    """The job was cancelled by a person, or by its own handler."""

    reason: str
    outcome: ClassVar[Outcome] = CANCELLED

    def settlement(self, **values: Any) -> Settlement:
        return End.settlement(self, error=self.reason, **values)


@dataclass(frozen=True, slots=True)
class Failed(End):
    """The attempt failed, and counts as one of the job's attempts. `delay` is the seconds until the next attempt; None means
    the usual backoff, which the runner then fills in. `final` means that no attempt follows, even if some are left."""

    cause: str
    error_class: str
    error: str
    traceback: str | None
    delay: float | None = None
    final: bool = False

    @property
    def outcome(self) -> Outcome:
        return DEAD if self.final or self.claim.is_last else RETRYING

    def settlement(self, **values: Any) -> Settlement:
        # Whether an attempt is left is for the row to say.
        state = State.DEAD if self.final else State.RETRYING
        failure = {"cause": self.cause, "error_class": self.error_class, "error": self.error, "traceback": self.traceback}
        return End.settlement(self, **{"state": state, "delay": self.delay or 0.0, **failure, **values})


def failed_by_hook(claim: Claim, seconds: float, error: Exception) -> Failed:
    """The end of an attempt whose claim or success was undone because a hook failed with `error`."""
    return Failed(claim, seconds, "hook", "HookFailed", str(error), None, delay=5.0)


@dataclass(frozen=True, slots=True)
class Snoozed(End):
    """The handler asked to run again after `delay` seconds, without spending an attempt."""

    delay: float
    outcome: ClassVar[Outcome] = SNOOZED

    def settlement(self, **values: Any) -> Settlement:
        return End.settlement(self, delay=self.delay, **values)


@dataclass(frozen=True, slots=True)
class Released(End):
    """The job goes back to the queue without spending an attempt. `started` is False if the job was claimed but never begun;
    then this does not count as a release. If `defer` is a number, the job is left to other workers: its hint is pushed only
    after a pause, which grows each time to at most this many seconds."""

    started: bool = True
    defer: float | None = None

    @property
    def outcome(self) -> Outcome:
        return RELEASED if self.started else RETURNED


class Said(Raised):
    """An outcome that a handler has raised or returned, turned into plain values, so that a child process can send it.
    `word` is the name of the outcome's class, which is a key of `ASKED`. `delay` is in seconds, or None for an outcome
    without a delay."""

    def __init__(self, word: str, reason: str, delay: float | None) -> None:
        super().__init__(reason)
        self.word, self.reason, self.delay = word, reason, delay


@dataclass(frozen=True, slots=True)
class Asked:
    """How to handle an outcome of the class `raised`, which a handler has requested. The function `delay` reads the
    outcome's delay in seconds, and raises `InvalidOption` if the delay is not valid. The function `end` makes an `End` from
    the outcome."""

    raised: type[Raised]
    delay: Callable[[Any], float | None]
    end: Callable[[Claim, float, Said], End]


def _none(_: Any) -> None:
    return None


def _after(what: Any) -> float | None:
    after = getattr(what, "after", None)
    return None if after is None else delay_of("Retry(after=)", after)


ASKED: Mapping[str, Asked] = {
    row.raised.__name__: row
    for row in (
        Asked(Retry, _after, lambda claim, s, said: Failed(claim, s, "error", "Retry", said.reason, None, said.delay)),
        Asked(
            Snooze,
            lambda what: delay_of("Snooze()", getattr(what, "for_", None)),
            lambda claim, seconds, said: Snoozed(claim, seconds, said.delay or 0.0),
        ),
        Asked(
            Discard,
            _none,
            lambda claim, s, said: Failed(claim, s, "discarded", "Discard", said.reason, None, final=True),
        ),
        Asked(Cancel, _none, lambda claim, seconds, said: Cancelled(claim, seconds, clean(said.reason, MAX_REASON))),
    )
}


def read_outcome(what: Any) -> Said | None:
    """Returns the outcome `what`, which a handler has raised or returned, as plain values. Returns None if its class is not
    in `ASKED`. Its attributes may have any values, since a subclass need not call Carafe's constructor. Raises
    `InvalidOption` for a delay that is not valid."""
    kind = type(what)  # never by `isinstance`, which asks the object
    if kind is Said:
        said: Said = what
        return said
    for word, row in ASKED.items():
        if issubclass(kind, row.raised):
            return Said(word, reason_of(getattr(what, "reason", None)), row.delay(what))
    return None
