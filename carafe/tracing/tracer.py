"""Sets up tracing in a process: a tracer, a sampler, and a thread that sends spans by OTLP. If the application has already
set up OpenTelemetry, its provider and exporters are used as they are.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from carafe.settings.settings import Settings, SettingsError, redact_url
from carafe.tracing import conventions as names

try:
    from opentelemetry import trace as api
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased
except ImportError as missing:
    raise SettingsError(
        ["TRACING_SAMPLE_RATIO: tracing needs OpenTelemetry's SDK: pip install 'carafe-jobs[tracing]', or leave it 0"]
    ) from missing

from carafe.telemetry.loggers import get_logger
from carafe.tracing.attempts import Attempts
from carafe.tracing.call_spans import Calling
from carafe.tracing.enqueue_spans import Sending
from carafe.tracing.sampling import Lots, Sampling
from carafe.tracing.spans import context_of, packed, place_of, unpacked
from carafe.tracing.untraced import NotSending

if TYPE_CHECKING:
    from carafe.tracing.context import Trace

log = get_logger("carafe.tracing")

QUEUE = "default"

GIVE_UP = 0.3
"""At the end of tracing, this many of the seconds that `close` may take are kept for the exporter to abandon a receiver that
hangs."""


class Tracing:
    """One process's tracing. All methods may be called from any thread."""

    def __init__(
        self, provider: TracerProvider, version: str, ratio: float, max_rate: int, close: Callable[[float], None]
    ) -> None:
        self._provider = provider
        tracer = provider.get_tracer("carafe", version, schema_url=names.SCHEMA_URL)
        self._sampling = Sampling(tracer, ratio, max_rate)
        self._close = close

    def sending(self, trace: str | None, jobs: int) -> "Sending | NotSending":
        """The span of an enqueue; see `carafe.tracing.enqueue_spans`. Never raises."""
        try:
            return Sending(self._sampling, trace, jobs, QUEUE)
        except Exception:  # an application's own sampler or processor
            log.exception("an enqueue is not traced")
            return NotSending(trace)

    def attempts(self, worker: str) -> Attempts:
        """Returns the object that makes the spans of a worker's attempts. `worker` is the worker's id, as the spans show
        it."""
        return Attempts(self._sampling, QUEUE, worker, self._export_from_child)

    def calling(self, method: str, url: str) -> Calling:
        """The span of an HTTP request that a handler makes; see `carafe.tracing.call_spans`."""
        return Calling(self._sampling.tracer, method, url)

    def _export_from_child(self, data: dict[str, Any]) -> None:
        """Send a span that has ended in a child process. Raises KeyError, TypeError or ValueError for other `data`."""
        # Through the provider's own processors: the SDK has no public way to hand it an ended span.
        self._provider._active_span_processor.on_end(unpacked(data, self._provider.resource))

    def close(self, timeout: float) -> None:
        """Send the spans that are left, within `timeout` seconds."""
        self._close(timeout)


def begin(settings: Settings, service: str, version: str) -> Tracing | None:
    """Set up tracing as the settings say. Returns None when OTEL_SDK_DISABLED switches OpenTelemetry off."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        log.warning("tracing is off: OTEL_SDK_DISABLED is set")
        return None
    from carafe.telemetry.logging import annotate

    ratio = settings.tracing_sample_ratio
    own = api.get_tracer_provider()
    if isinstance(own, TracerProvider):
        log.info("tracing with the application's own provider", ratio=ratio)
        tracing = Tracing(own, version, ratio, settings.tracing_max_rate, lambda timeout: None)
    else:
        exporter, endpoint = _exporter(settings)
        processor = BatchSpanProcessor(_Telling(exporter, redact_url(endpoint)))
        provider = TracerProvider(
            sampler=ParentBased(root=Lots(ratio)), resource=_resource(settings, service, version), shutdown_on_exit=False
        )
        provider.add_span_processor(processor)
        api.set_tracer_provider(provider)
        log.info("tracing", ratio=ratio, endpoint=redact_url(endpoint), protocol=settings.otel_exporter_otlp_protocol)
        tracing = Tracing(
            provider, version, ratio, settings.tracing_max_rate, lambda timeout: _shut_down(processor, exporter, timeout)
        )
    annotate("tracing", _log_context)
    return tracing


def _log_context() -> dict[str, Any]:
    """Returns the ids of the current trace and span, to be added to a log line. Returns an empty dictionary if the trace is
    not sampled."""
    span = api.get_current_span().get_span_context()
    if not span.trace_flags.sampled:
        return {}
    place = place_of(span)
    return {"trace_id": place.trace_id, "span_id": place.span_id}


def _resource(settings: Settings, service: str, version: str) -> Resource:
    attributes = {
        names.SERVICE_VERSION: version,
        names.SERVICE_INSTANCE: str(uuid4()),
        names.HOST_NAME: socket.gethostname(),
    }
    if settings.otel_service_name:
        attributes[names.SERVICE_NAME] = settings.otel_service_name
    elif f"{names.SERVICE_NAME}=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        attributes[names.SERVICE_NAME] = service
    return Resource.create(attributes)


def _exporter(settings: Settings) -> tuple[SpanExporter, str]:
    """Returns the exporter and the URL to which it sends. The environment variable OTEL_EXPORTER_OTLP_TRACES_ENDPOINT takes
    precedence over Carafe's setting, because it is more specific. The exporter itself reads more settings from the
    environment (certificates, compression, timeout)."""
    headers = _headers(settings)
    given = settings.otel_exporter_otlp_endpoint
    general = None if given is None else given.get_secret_value()
    specific = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or None
    # The exporters log every try. We only log the first that fails, and the first that succeeds again.
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


class _Telling(SpanExporter):
    """An exporter that passes spans on to another one. It logs once when the receiver stops taking spans, and once when the
    receiver takes them again."""

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
    """Shut the processor down within `timeout` seconds. Its own ``shutdown`` would wait half a minute for a receiver that
    hangs."""
    ending = threading.Thread(target=processor.shutdown, name="carafe tracing", daemon=True)
    ending.start()
    ending.join(timeout - GIVE_UP)
    if ending.is_alive():
        log.warning("spans dropped: the receiver does not take them in time")
        letting_go = threading.Thread(target=exporter.shutdown, name="carafe tracing", daemon=True)
        letting_go.start()
        letting_go.join(GIVE_UP)


class _ToParent(SpanProcessor):
    """In a child process: hands each ended span to the parent process, which has the exporter."""

    def __init__(self, say: Callable[[dict[str, Any]], None], shown: Callable[[Any], Any]) -> None:
        self._say, self._shown = say, shown

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            try:
                self._say({"span": packed(span, self._shown)})
            except Exception:  # the parent is gone, or memory is short: nobody to tell
                pass


def begin_in_child(parent: "Trace", say: Callable[[dict[str, Any]], None], shown: Callable[[Any], Any]) -> None:
    """Set up tracing in the child process of one job: the handler's spans become children of the attempt's span (`parent`),
    and `say` sends them to the worker. `shown` redacts the handler's texts."""
    from opentelemetry.context import attach

    from carafe.telemetry.logging import annotate

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_ToParent(say, shown))
    api.set_tracer_provider(provider)
    attach(context_of(parent))
    annotate("tracing", _log_context)
