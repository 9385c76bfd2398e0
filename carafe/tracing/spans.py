"""Converts between `Trace` and OpenTelemetry's contexts, and turns spans into plain data and back, so that a child process
can hand them to its parent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
)

from carafe.tracing.context import Trace


def span_context(place: Trace) -> SpanContext:
    """Returns OpenTelemetry's SpanContext for this place, marked as that of a span in another process."""
    return SpanContext(
        trace_id=int(place.trace_id, 16),
        span_id=int(place.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([place.state]) if place.state else TraceState(),
    )


def context_of(place: Trace) -> Context:
    """Returns an OpenTelemetry context whose current span is the span at this place."""
    return api.set_span_in_context(NonRecordingSpan(span_context(place)), Context())


def place_of(span: SpanContext) -> Trace:
    """Returns the place in a trace that belongs to a span."""
    return Trace(
        format_trace_id(span.trace_id), format_span_id(span.span_id), span.trace_flags.sampled, span.trace_state.to_header()
    )


def packed(span: ReadableSpan, shown: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns an ended span as plain data. The span's resource is left out: the process that calls `unpacked` adds its own.
    `shown` redacts the values that the application put into the span."""
    scope = span.instrumentation_scope
    assert span.context is not None
    return {
        "name": shown(span.name),
        "context": _pack(span.context),
        "parent": None if span.parent is None else _pack(span.parent),
        "kind": span.kind.name,
        "start": span.start_time,
        "end": span.end_time,
        "attributes": shown(_plain(span.attributes)),
        "events": [[shown(event.name), event.timestamp, shown(_plain(event.attributes))] for event in span.events],
        "links": [[_pack(link.context), shown(_plain(link.attributes))] for link in span.links],
        "status": [span.status.status_code.name, shown(span.status.description)],
        "scope": None if scope is None else [scope.name, scope.version, scope.schema_url],
    }


def unpacked(data: Mapping[str, Any], resource: Resource) -> ReadableSpan:
    """Returns the span that `packed` turned into `data`. Raises KeyError, TypeError or ValueError for any other data."""
    code, description = data["status"]
    return ReadableSpan(
        name=data["name"],
        context=_unpack(data["context"]),
        parent=None if data["parent"] is None else _unpack(data["parent"]),
        resource=resource,
        attributes=data["attributes"],
        events=[Event(name, attributes, timestamp) for name, timestamp, attributes in data["events"]],
        links=[Link(_unpack(place), attributes) for place, attributes in data["links"]],
        kind=SpanKind[data["kind"]],
        status=Status(StatusCode[code], description),
        start_time=data["start"],
        end_time=data["end"],
        instrumentation_scope=None if data["scope"] is None else InstrumentationScope(*data["scope"]),
    )


def _pack(span: SpanContext) -> Sequence[Any]:
    return [*place_of(span), span.is_remote]


def _unpack(data: Sequence[Any]) -> SpanContext:
    *place, remote = data
    found = span_context(Trace(*place))
    return SpanContext(found.trace_id, found.span_id, remote, found.trace_flags, found.trace_state)


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the attributes as values that JSON can hold. Bytes, which are rare, become text."""
    return {name: _as_text(value) for name, value in (attributes or {}).items()}


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _plain(value)
    return [_as_text(item) for item in value] if isinstance(value, Sequence) else str(value)
