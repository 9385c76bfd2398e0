"""Decides which traces are recorded, and has the OpenTelemetry contexts in which their spans begin."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context, create_key, get_value, set_value
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

_CHOSEN = create_key("carafe chosen")


class Sampling:
    """Decides which traces one process records. The share `ratio` of the traces that begin in this process is recorded; a
    worker begins at most `max_rate` traces a second."""

    def __init__(self, tracer: api.Tracer, ratio: float, max_rate: int) -> None:
        self.tracer = tracer
        self.ratio = ratio
        self.max_rate = max_rate
        self.nobody = SpanContext(
            random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_remote=False, trace_flags=TraceFlags(0)
        )
        """One made-up, unsampled span that is used for every job and request that is not traced."""
        self.unsampled = api.set_span_in_context(NonRecordingSpan(self.nobody), Context())
        self.chosen = set_value(_CHOSEN, True, Context())
        """A context without a span. A trace that begins in it is always recorded, because the random choice was made
        before."""


class Lots(Sampler):
    """OpenTelemetry sampler that decides at random whether to record a trace that begins here. In the context `chosen` it
    always records."""

    def __init__(self, ratio: float) -> None:
        self._lots = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        if get_value(_CHOSEN, parent_context):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._lots.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return f"carafe, {self._lots.get_description()}"
