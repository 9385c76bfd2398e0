"""The span of an enqueue, and the context that its jobs take along."""

import random
from types import TracebackType
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace as api
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind, Status, StatusCode

from carafe.tracing import conventions as names
from carafe.tracing.context import Trace, parse
from carafe.tracing.spans import context_of, place_of

if TYPE_CHECKING:
    from carafe.jobs.records import Enqueued
    from carafe.tracing.tracer import Tracing

log = structlog.stdlib.get_logger("carafe.tracing")


class Sending:
    """One batch on its way in. `trace` is what its first jobs carry, `rest` what those beyond `TRACED_OF_BULK` do."""

    __slots__ = ("_span", "_token", "rest", "trace")

    def __init__(self, tracing: "Tracing", brought: str | None, jobs: int, queue: str) -> None:
        self._span: api.Span | None = None
        self._token: Any = None
        parent = parse(brought)
        current = api.get_current_span().get_span_context()
        if parent is None and brought is None and current.is_valid and current.trace_id != tracing.nobody.trace_id:
            parent = place_of(current)
        if parent is None and brought is not None:
            self.trace = self.rest = brought  # not for us to read, but the caller's to keep
        elif parent is not None and not parent.sampled:
            self.trace = self.rest = parent.text
        elif parent is None and (current.trace_id == tracing.nobody.trace_id or random.random() >= tracing.ratio):
            # Said to the workers, which would draw lots again.
            self.trace = self.rest = Trace(f"{_bits(128):032x}", f"{_bits(64):016x}", False).text
        else:
            attributes: dict[str, str | int] = {
                names.SYSTEM: names.CARAFE,
                names.OPERATION_NAME: "enqueue",
                names.OPERATION_TYPE: names.SEND,
                names.DESTINATION: queue,
            }
            if jobs != 1:
                attributes[names.BATCH_COUNT] = jobs
            self._span = tracing.tracer.start_span(
                f"enqueue {queue}",
                context=tracing.chosen if parent is None else context_of(parent),
                kind=SpanKind.PRODUCER,
                attributes=attributes,
            )
            place = place_of(self._span.get_span_context())
            self.trace, self.rest = place.text, place._replace(sampled=False).text

    def __enter__(self) -> "Sending":
        if self._span is not None:
            self._token = attach(api.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        detach(self._token)
        try:
            if error is not None:
                # Its class alone: a fault in the arguments says what they were.
                self._span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
                self._span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
            self._span.end()
        except Exception:  # an application's own processor
            log.exception("an enqueue's span is lost")

    def sent(self, answers: "list[Enqueued]") -> "list[Enqueued]":
        """The answers, as they are; the span tells of them."""
        if self._span is not None and answers:
            kinds = {answer.kind for answer in answers}
            if len(kinds) == 1:
                self._span.set_attribute(names.KIND, kinds.pop())
            if len(answers) == 1:
                self._span.set_attribute(names.MESSAGE_ID, str(answers[0].id))
                if answers[0].existing:
                    self._span.set_attribute(names.EXISTING, True)
        return answers


def _bits(count: int) -> int:
    return random.getrandbits(count) or 1
