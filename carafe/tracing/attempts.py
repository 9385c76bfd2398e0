"""The spans of a worker: how long a job has waited, and each attempt, the current span while its handler runs.

An attempt's span begins in the context of that attempt, and ends on the runner's loop. A job that is not traced costs a
look at its row, or lots drawn for one that was enqueued without a trace; of these no more than TRACING_MAX_RATE a second are
traced.
"""

import math
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from opentelemetry import trace as api
from opentelemetry.context import attach
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from carafe.tracing import conventions as names
from carafe.tracing.context import Trace, parse
from carafe.tracing.spans import context_of, place_of, span_context, unpacked

if TYPE_CHECKING:
    from carafe.tracing.tracer import Tracing

log = structlog.stdlib.get_logger("carafe.tracing")

SAMPLED = frozenset("13579bdf")
"""The last digit of a traceparent's flags when the trace is kept."""

MAX_DESCRIPTION = 500
"""Characters of an error that the status of a span shows; the whole stands in its event."""


class Traced:
    """One attempt that is traced."""

    __slots__ = ("_enqueued", "_span", "here", "trace_id")

    def __init__(self, span: api.Span, enqueued: Trace | None) -> None:
        self._span = span
        attach(api.set_span_in_context(span))  # for good: the context is the attempt's own, and ends with it
        self._enqueued = enqueued
        self.here = place_of(span.get_span_context())
        self.trace_id = self.here.trace_id

    @property
    def next(self) -> str:
        """The job's trace from now on: the next attempt points back at this one."""
        return (self._enqueued or self.here).after(self.here.span_id).text

    def end(self, outcome: str, cause: str | None, error: tuple[str, str, str | None] | None) -> None:
        """The attempt is over. `error` as (class, message, traceback). Never raises."""
        try:
            self._end(outcome, cause, error)
        except BaseException:  # an application's own processor: whatever it raises, the slot goes on
            log.exception("an attempt's span is lost")

    def _end(self, outcome: str, cause: str | None, error: tuple[str, str, str | None] | None) -> None:
        span = self._span
        span.set_attribute(names.OUTCOME, outcome)
        if cause is not None:
            span.set_attribute(names.CAUSE, cause)
        if error is not None:
            kind, message, traceback = error
            span.set_attribute(names.ERROR_TYPE, kind)
            event = {names.EXCEPTION_TYPE: kind, names.EXCEPTION_MESSAGE: message}
            if traceback:
                event[names.EXCEPTION_STACKTRACE] = traceback
            span.add_event(names.EXCEPTION, event)
            span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"[:MAX_DESCRIPTION]))
        span.end()


class Claimed(Protocol):
    """What is to be known of a claim."""

    @property
    def kind(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def row(self) -> Any: ...


class Attempts:
    """One worker's."""

    def __init__(self, tracing: "Tracing", queue: str, worker: str) -> None:
        self._tracing, self._queue = tracing, queue
        self._blanks = _blanks(tracing.ratio)
        self._second, self._left = 0.0, 0
        self._attributes = {
            names.SYSTEM: names.CARAFE,
            names.OPERATION_NAME: "process",
            names.OPERATION_TYPE: names.PROCESS,
            names.DESTINATION: queue,
            names.CLIENT_ID: worker,
        }

    def hush(self) -> None:
        """Handlers that run in this context and its copies make no spans of their own, unless their job is traced."""
        attach(self._tracing.unsampled)

    def begin(self, claim: Claimed) -> Traced | None:
        """Begin the span of an attempt and make it the current one; None when this job is not traced. Never raises."""
        trace = claim.row["trace"]
        if trace is None:
            self._blanks -= 1
            if self._blanks >= 0:
                return None
            self._blanks = _blanks(self._tracing.ratio)
            if not self._may_begin():
                return None
        elif trace[54:55] not in SAMPLED:
            return None
        try:
            return self._begun(claim, parse(trace))
        except Exception:  # an application's own sampler or processor: no reason to lose a slot
            log.exception("an attempt is not traced")
            return None

    def _may_begin(self) -> bool:
        """Whether fewer traces than TRACING_MAX_RATE were begun in the last second."""
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._left = now, self._tracing.max_rate
        self._left -= 1
        return self._left >= 0

    def _begun(self, claim: Claimed, enqueued: Trace | None) -> Traced:
        attributes = {
            **self._attributes,
            names.MESSAGE_ID: str(claim.row["id"]),
            names.KIND: claim.kind,
            names.ATTEMPT: claim.attempt,
            names.MAX_ATTEMPTS: claim.row["max_attempts"],
        }
        links: list[Link] = []
        context = self._tracing.chosen
        if enqueued is not None:
            context = context_of(enqueued)
            self._waited(claim, context)
            links.append(Link(span_context(enqueued), {names.LINK: names.ENQUEUED_BY}))
            last = enqueued.last_attempt
            if last is not None:
                links.append(Link(span_context(enqueued._replace(span_id=last)), {names.LINK: names.PREVIOUS_ATTEMPT}))
        span = self._tracing.tracer.start_span(
            f"process {self._queue}", context=context, kind=SpanKind.CONSUMER, attributes=attributes, links=links
        )
        return Traced(span, enqueued)

    def _waited(self, claim: Claimed, context: Any) -> None:
        """From when the job was due until it was claimed, both by Postgres's clock."""
        due, started = _nanoseconds(claim.row["due_at"]), _nanoseconds(claim.row["started_at"])
        if due < started:
            span = self._tracing.tracer.start_span(
                f"wait {self._queue}",
                context=context,
                attributes={
                    names.SYSTEM: names.CARAFE,
                    names.DESTINATION: self._queue,
                    names.MESSAGE_ID: str(claim.row["id"]),
                    names.KIND: claim.kind,
                    names.ATTEMPT: claim.attempt,
                },
                start_time=due,
            )
            span.end(started)

    @property
    def from_child(self) -> Callable[[dict[str, Any]], None]:
        """Takes spans that a child process has made. From any thread; what it cannot read it drops."""
        tracing = self._tracing

        def take(data: dict[str, Any]) -> None:
            try:
                tracing.export(unpacked(data, tracing.resource))
            except (KeyError, TypeError, ValueError):
                pass  # a handler has written into its process's pipe

        return take


def _blanks(ratio: float) -> int:
    """How many jobs in a row draw a blank, when one in 1/`ratio` is traced: drawn ahead, so that each costs a count."""
    return 0 if ratio >= 1 else int(math.log(1 - random.random()) / math.log1p(-ratio))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
