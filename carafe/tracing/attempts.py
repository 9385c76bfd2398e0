"""The spans of a worker: one for the time that a job waited, and one for each attempt, which is the current span while the
handler runs.

An attempt's span begins in the context of that attempt, and ends on the runner's loop. A job that is not traced costs only a
look at its row. Some of the jobs that were enqueued without a trace are chosen at random and traced, at most
TRACING_MAX_RATE a second.
"""

import math
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from opentelemetry import trace as api
from opentelemetry.context import attach
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from carafe.telemetry.loggers import get_logger
from carafe.tracing import conventions as names
from carafe.tracing.context import Trace, parse
from carafe.tracing.sampling import Sampling
from carafe.tracing.spans import context_of, place_of, span_context

log = get_logger("carafe.tracing")

SAMPLED = frozenset("13579bdf")
"""If the last hex digit of a traceparent is one of these, the trace is sampled (the lowest bit of the flags is set)."""

MAX_DESCRIPTION = 500
"""The maximum number of characters of an error in the status of a span. The span's event has the whole error."""


class Traced:
    """The span of one attempt that is traced."""

    __slots__ = ("_enqueued", "_span", "here", "trace_id")

    def __init__(self, span: api.Span, enqueued: Trace | None) -> None:
        self._span = span
        attach(api.set_span_in_context(span))  # never detached: the context belongs to the attempt, and ends with it
        self._enqueued = enqueued
        self.here = place_of(span.get_span_context())
        self.trace_id = self.here.trace_id

    @property
    def next(self) -> str:
        """The text to store as the job's trace, so that the span of the next attempt links to the span of this one."""
        return (self._enqueued or self.here).after(self.here.span_id).text

    def end(self, outcome: str, cause: str | None, error: tuple[str, str, str | None] | None) -> None:
        """End the span, because the attempt is over. `error` is (class, message, traceback). Never raises."""
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
    """What `Attempts` needs to know about a claimed job."""

    @property
    def kind(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def row(self) -> Any: ...


class Attempts:
    """Makes the spans of one worker's attempts."""

    def __init__(self, sampling: Sampling, queue: str, worker: str, export: Callable[[dict[str, Any]], None]) -> None:
        """The function `export` sends a span that a child process has turned into plain data. It raises KeyError, TypeError
        or ValueError if the data is not a span."""
        self._sampling, self._queue, self._export = sampling, queue, export
        self._blanks = _blanks(sampling.ratio)
        self._second, self._left = 0.0, 0
        self._attributes = {
            names.SYSTEM: names.CARAFE,
            names.OPERATION_NAME: "process",
            names.OPERATION_TYPE: names.PROCESS,
            names.DESTINATION: queue,
            names.CLIENT_ID: worker,
        }

    def hush(self) -> None:
        """From now on, code in this context or a copy of it records no spans. Handlers of traced jobs still record spans,
        since each has the span of its attempt."""
        attach(self._sampling.unsampled)

    def begin(self, claim: Claimed) -> Traced | None:
        """Begin the span of an attempt and make it the current span. Returns None when the job is not traced. Never
        raises."""
        trace = claim.row["trace"]
        if trace is None:
            self._blanks -= 1
            if self._blanks >= 0:
                return None
            self._blanks = _blanks(self._sampling.ratio)
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
        """Returns whether a new trace may begin now: at most TRACING_MAX_RATE traces may begin in a second. Each call counts
        as a new trace."""
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._left = now, self._sampling.max_rate
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
        context = self._sampling.chosen
        if enqueued is not None:
            context = context_of(enqueued)
            self._waited(claim, context)
            links.append(Link(span_context(enqueued), {names.LINK: names.ENQUEUED_BY}))
            last = enqueued.last_attempt
            if last is not None:
                links.append(Link(span_context(enqueued._replace(span_id=last)), {names.LINK: names.PREVIOUS_ATTEMPT}))
        span = self._sampling.tracer.start_span(
            f"process {self._queue}", context=context, kind=SpanKind.CONSUMER, attributes=attributes, links=links
        )
        return Traced(span, enqueued)

    def _waited(self, claim: Claimed, context: Any) -> None:
        """Make the span of the job's wait: from when the job was due until it was claimed, both by Postgres's clock."""
        due, started = _nanoseconds(claim.row["due_at"]), _nanoseconds(claim.row["started_at"])
        if due < started:
            span = self._sampling.tracer.start_span(
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

    def from_child(self, data: dict[str, Any]) -> None:
        """Send a span that a child process has made. Drops data that is not a span. May be called from any thread."""
        try:
            self._export(data)
        except (KeyError, TypeError, ValueError):
            pass  # a handler has written into its process's pipe


def _blanks(ratio: float) -> int:
    """Returns how many jobs to leave untraced before the next traced one. The number is random, such that on average the
    share `ratio` of all jobs is traced. One random number for each traced job is cheaper than one for every job."""
    return 0 if ratio >= 1 else int(math.log(1 - random.random()) / math.log1p(-ratio))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
