"""If an application's own provider raises errors, no enqueue and no attempt fails because of that."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from carafe.jobs.errors import InvalidOption
from carafe.tracing.tracer import Tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Breaks(SpanProcessor):
    """It raises when a span begins, or when it ends."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._at == "start":
            raise RuntimeError("processor")

    def on_end(self, span: ReadableSpan) -> None:
        if self._at == "end":
            raise RuntimeError("processor")


class Claim:
    """A claim of a job that is traced."""

    kind, attempt = "some.kind", 1

    def __init__(self) -> None:
        now = datetime.now(UTC)
        due = now - timedelta(seconds=1)
        self.row = {"id": uuid4(), "trace": PARENT, "max_attempts": 4, "due_at": due, "started_at": now}


def tracing(*processors: SpanProcessor) -> Tracing:
    """With a provider of its own, that is nobody else's."""
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return Tracing(provider, "0", 1.0, 100, lambda timeout: None)


@pytest.mark.parametrize("at", ["start", "end"])
def test_nothing_fails_of_a_processor_that_raises(at: str) -> None:
    broken = tracing(Breaks(at))
    with broken.sending(PARENT, 1) as span:
        assert span.sent([]) == []
        assert span.trace is not None
        assert span.trace.startswith(PARENT[:35])
    traced = broken.attempts("worker").begin(Claim())
    if traced is not None:
        traced.end("succeeded", None, None)


def test_an_enqueue_that_is_refused_says_so_without_its_arguments() -> None:
    exporter = InMemorySpanExporter()
    with (
        pytest.raises(InvalidOption),
        tracing(SimpleSpanProcessor(exporter)).sending(PARENT, 1),
    ):
        raise InvalidOption("run_at", "hunter2 is not a time")
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["error.type"] == "InvalidOption"
    assert not span.status.is_ok
    assert "hunter2" not in span.to_json()


def test_a_worker_begins_no_more_traces_a_second_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("carafe.tracing.attempts.time.monotonic", lambda: now)
    attempts = tracing().attempts("worker")

    def begun(trace: str | None) -> int:
        claims = [Claim() for _ in range(250)]
        for claim in claims:
            claim.row["trace"] = trace
        found = [one for claim in claims if (one := attempts.begin(claim)) is not None]
        for one in reversed(found):
            one.end("succeeded", None, None)
        return len(found)

    assert begun(None) == 100
    assert begun(None) == 0
    assert begun(PARENT) == 250, "those that came with their jobs go on"
    now += 1.0
    assert begun(None) == 100
