"""An OTLP receiver, by gRPC and by HTTP, that keeps the spans it is sent."""

import http.server
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Link:
    """What a span points at."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Span:
    """A span as it came in; ids in hex, times in nanoseconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, Any]
    links: list[Link]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    status: str
    start: int
    end: int
    service: str
    resource: dict[str, Any] = field(repr=False)
    scope: str = ""
    schema_url: str = ""


class Receiver:
    """Both ports of one receiver. Use it as a context manager."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Service(service.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                receiver._take(request, dict(context.invocation_metadata()))
                return messages.ExportTraceServiceResponse()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                receiver._take(messages.ExportTraceServiceRequest.FromString(body), dict(self.headers.items()))
                answer = messages.ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._grpc = grpc.server(ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(Service(), self._grpc)  # type: ignore[no-untyped-call]
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        self._grpc.start()
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(None).wait(5)
        self._http.shutdown()
        self._http.server_close()

    @property
    def grpc_url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._grpc_port}"

    @property
    def http_url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT, with http/protobuf."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def spans(self, trace_id: str | None = None, **wanted: object) -> list[Span]:
        """What has come in, the earliest first: of one trace, and with these values."""
        with self._lock:
            found = [span for span in self._spans if trace_id is None or span.trace_id == trace_id]
        found = [span for span in found if all(getattr(span, name) == value for name, value in wanted.items())]
        return sorted(found, key=lambda span: span.start)

    def of_job(self, job_id: object) -> list[Span]:
        """The spans that name a job, the earliest first."""
        return [span for span in self.spans() if span.attributes.get("messaging.message.id") == str(job_id)]

    def _take(self, request: Any, headers: dict[str, str]) -> None:
        with self._lock:
            self.headers.append({name.lower(): value for name, value in headers.items()})
            for resource in request.resource_spans:
                about = _values(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self._spans += [_read(sent, about, scope) for sent in scope.spans]


def _read(sent: Sent, resource: dict[str, Any], scope: Any) -> Span:
    return Span(
        name=sent.name,
        kind=Sent.SpanKind.Name(sent.kind).removeprefix("SPAN_KIND_"),
        trace_id=sent.trace_id.hex(),
        span_id=sent.span_id.hex(),
        parent=sent.parent_span_id.hex(),
        attributes=_values(sent.attributes),
        links=[Link(link.trace_id.hex(), link.span_id.hex(), _values(link.attributes)) for link in sent.links],
        events=[(event.name, _values(event.attributes)) for event in sent.events],
        failed=sent.status.code == Status.STATUS_CODE_ERROR,
        status=sent.status.message,
        start=sent.start_time_unix_nano,
        end=sent.end_time_unix_nano,
        service=str(resource["service.name"]),
        resource=resource,
        scope=scope.scope.name,
        schema_url=scope.schema_url,
    )


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    return {item.key: _value(item.value) for item in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
