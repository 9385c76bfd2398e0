"""The span of an enqueue, and the place in a trace that is stored with its jobs."""

import random
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry import trace as api
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind, Status, StatusCode

from carafe.telemetry.loggers import get_logger
from carafe.tracing import conventions as names
from carafe.tracing.context import Trace, parse
from carafe.tracing.sampling import Sampling
from carafe.tracing.spans import context_of, place_of

if TYPE_CHECKING:
    from carafe.jobs.records import Enqueued

log = get_logger("carafe.tracing")


class Sending:
    """The span of the enqueue of one batch. `trace` is the text to store as the trace of the batch's first `TRACED_OF_BULK`
    jobs. `rest` is the text for all further jobs, which are not traced."""

    __slots__ = ("_span", "_token", "rest", "trace")

    def __init__(self, sampling: Sampling, brought: str | None, jobs: int, queue: str) -> None:
        self._span: api.Span | None = None
        self._token: Any = None
        parent = parse(brought)
        current = api.get_current_span().get_span_context()
        if parent is None and brought is None and current.is_valid and current.trace_id != sampling.nobody.trace_id:
            parent = place_of(current)
        if parent is None and brought is not None:
            self.trace = self.rest = brought  # not a traceparent that we can read: kept as the caller gave it
        elif parent is not None and not parent.sampled:
            self.trace = self.rest = parent.text
        elif parent is None and (current.trace_id == sampling.nobody.trace_id or random.random() >= sampling.ratio):
            # A trace that is not sampled tells the workers so; without a trace they would draw again.
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
            self._span = sampling.tracer.start_span(
                f"enqueue {queue}",
                context=sampling.chosen if parent is None else context_of(parent),
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
                # The error's class alone: its message may repeat arguments.
                self._span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
                self._span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
            self._span.end()
        except Exception:  # an application's own processor
            log.exception("an enqueue's span is lost")

    def sent(self, answers: "list[Enqueued]") -> "list[Enqueued]":
        """Records the answers in the span, and returns them unchanged."""
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
