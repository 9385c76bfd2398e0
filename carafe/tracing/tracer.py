"""What a process that traces has: a tracer, lots to draw, and a thread that sends the spans by OTLP.

Where the application has set up OpenTelemetry itself before, its own provider and exporters are used, and left to it.
"""

import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

import carafe
from carafe.settings import Settings, SettingsError, redact_url
from carafe.tracing import NotSending
from carafe.tracing import conventions as names

try:
    from opentelemetry import trace as api
    from opentelemetry.context import Context, create_key, get_value, set_value
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
    from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
except ImportError as missing:
    raise SettingsError(
        ["TRACING_SAMPLE_RATIO: tracing needs OpenTelemetry's SDK: pip install 'carafe-jobs[tracing]', or leave it 0"]
    ) from missing

from carafe.tracing.attempts import Attempts
from carafe.tracing.sending import Sending
from carafe.tracing.spans import context_of, packed, place_of

if TYPE_CHECKING:
    from carafe.tracing.context import Trace

log = structlog.stdlib.get_logger("carafe.tracing")

QUEUE = "default"

GIVE_UP = 0.3
"""Seconds that the exporter gets to let go of a receiver that hangs, within the time to stop."""

_CHOSEN = create_key("carafe chosen")


class Tracing:
    """One process's tracing. Everything from any thread."""

    def __init__(self, provider: TracerProvider, ratio: float, max_rate: int, close: Callable[[float], None]) -> None:
        self.ratio = ratio
        self.max_rate = max_rate
        self.resource = provider.resource
        self._provider = provider
        self.tracer = provider.get_tracer("carafe", carafe.__version__, schema_url=names.SCHEMA_URL)
        self.nobody = SpanContext(
            random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_remote=False, trace_flags=TraceFlags(0)
        )
        """The span that stands for every job and request that is not traced."""
        self.unsampled = api.set_span_in_context(NonRecordingSpan(self.nobody), Context())
        self.chosen = set_value(_CHOSEN, True, Context())
        """A context without a span, for a trace that has been drawn already."""
        self._close = close

    def sending(self, trace: str | None, jobs: int) -> "Sending | NotSending":
        """See `carafe.tracing.sending`. Never raises."""
        try:
            return Sending(self, trace, jobs, QUEUE)
        except Exception:  # an application's own sampler or processor
            log.exception("an enqueue is not traced")
            return NotSending(trace)

    def attempts(self, worker: str) -> Attempts:
        """The spans of a worker's attempts."""
        return Attempts(self, QUEUE, worker)

    def export(self, span: ReadableSpan) -> None:
        """Send a span that has ended elsewhere."""
        # The provider's own processors, whatever they are; the SDK offers no way to hand it an ended span.
        self._provider._active_span_processor.on_end(span)

    def log_context(self) -> dict[str, Any]:
        """What a log line says of the trace that its code belongs to."""
        span = api.get_current_span().get_span_context()
        if not span.trace_flags.sampled:
            return {}
        place = place_of(span)
        return {"trace_id": place.trace_id, "span_id": place.span_id}

    def close(self, timeout: float) -> None:
        """Send what is left, within `timeout` seconds."""
        self._close(timeout)


def begin(settings: Settings, service: str) -> Tracing | None:
    """Set up what the settings say. None when OTEL_SDK_DISABLED says that nothing of OpenTelemetry shall run."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        log.warning("tracing is off: OTEL_SDK_DISABLED is set")
        return None
    from carafe.logging import annotate

    ratio = settings.tracing_sample_ratio
    own = api.get_tracer_provider()
    if isinstance(own, TracerProvider):
        log.info("tracing with the application's own provider", ratio=ratio)
        tracing = Tracing(own, ratio, settings.tracing_max_rate, lambda timeout: None)
    else:
        exporter, endpoint = _exporter(settings)
        processor = BatchSpanProcessor(_Telling(exporter, redact_url(endpoint)))
        provider = TracerProvider(
            sampler=ParentBased(root=_Lots(ratio)), resource=_resource(settings, service), shutdown_on_exit=False
        )
        provider.add_span_processor(processor)
        api.set_tracer_provider(provider)
        log.info("tracing", ratio=ratio, endpoint=redact_url(endpoint), protocol=settings.otel_exporter_otlp_protocol)
        tracing = Tracing(
            provider, ratio, settings.tracing_max_rate, lambda timeout: _shut_down(processor, exporter, timeout)
        )
    annotate("tracing", tracing.log_context)
    return tracing


def _resource(settings: Settings, service: str) -> Resource:
    attributes = {
        names.SERVICE_VERSION: carafe.__version__,
        names.SERVICE_INSTANCE: str(uuid4()),
        names.HOST_NAME: socket.gethostname(),
    }
    if settings.otel_service_name:
        attributes[names.SERVICE_NAME] = settings.otel_service_name
    elif f"{names.SERVICE_NAME}=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes[names.SERVICE_NAME] = service
    return Resource.create(attributes)


def _exporter(settings: Settings) -> tuple[SpanExporter, str]:
    """The exporter, and where it sends. What is no setting of ours (certificates, compression, timeout) it reads from the
    environment itself, and so OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, which is more specific than our setting."""
    headers = _headers(settings)
    given = settings.otel_exporter_otlp_endpoint
    general = None if given is None else given.get_secret_value()
    specific = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or None
    # The exporters tell of every try; we tell of the first that fails, and of the first that succeeds again.
    for name in ("opentelemetry.exporter", "opentelemetry.sdk.trace.export", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    exporter: SpanExporter
    if settings.otel_exporter_otlp_protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        endpoint = specific or general or "http://localhost:4317"
        exporter = grpc.OTLPSpanExporter(endpoint=endpoint, headers=headers)
    else:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

        base = general or "http://localhost:4318"
        endpoint = specific or f"{base.rstrip('/')}/v1/traces"
        exporter = http.OTLPSpanExporter(endpoint=endpoint, headers=headers)
    return exporter, endpoint


def _headers(settings: Settings) -> dict[str, str] | None:
    given = settings.otel_exporter_otlp_headers
    if given is None:
        return None
    from opentelemetry.util.re import parse_env_headers

    return dict(parse_env_headers(given.get_secret_value(), liberal=True))


class _Lots(Sampler):
    """Draws lots for a trace that begins here, unless that has been done."""

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


class _Telling(SpanExporter):
    """Passes spans on, and logs once that the receiver takes none, and once that it does again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter, self._endpoint = exporter, endpoint
        self._failing = False
        self._closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # of the exporter's own making: no reason to end its thread
            log.warning("spans not sent", error=f"{type(error).__name__}: {error}"[:300])
            return SpanExportResult.FAILURE
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            log.warning("spans are dropped: the receiver does not take them", endpoint=self._endpoint, spans=len(spans))
        elif self._failing and not failing:
            log.info("spans are sent again", endpoint=self._endpoint)
        self._failing = failing
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _shut_down(processor: SpanProcessor, exporter: SpanExporter, timeout: float) -> None:
    """The processor's own shutdown waits for half a minute for a receiver that hangs."""
    ending = threading.Thread(target=processor.shutdown, name="carafe tracing", daemon=True)
    ending.start()
    ending.join(timeout - GIVE_UP)
    if ending.is_alive():
        log.warning("spans dropped: the receiver does not take them in time")
        letting_go = threading.Thread(target=exporter.shutdown, name="carafe tracing", daemon=True)
        letting_go.start()
        letting_go.join(GIVE_UP)


class _ToParent(SpanProcessor):
    """In a child process: hands each ended span to the parent, which has the exporter."""

    def __init__(self, say: Callable[[dict[str, Any]], None], shown: Callable[[Any], Any]) -> None:
        self._say, self._shown = say, shown

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            try:
                self._say({"span": packed(span, self._shown)})
            except Exception:  # the parent is gone, or memory is short: nobody to tell
                pass


def begin_in_child(parent: "Trace", say: Callable[[dict[str, Any]], None], shown: Callable[[Any], Any]) -> None:
    """In a child process, for its one job: the handler's spans belong to the attempt's, and go to the worker. `shown` gives
    the handler's texts as they may be shown."""
    from opentelemetry.context import attach

    from carafe.logging import annotate

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_ToParent(say, shown))
    api.set_tracer_provider(provider)
    attach(context_of(parent))
    annotate("tracing", Tracing(provider, 1.0, 1, lambda timeout: None).log_context)
