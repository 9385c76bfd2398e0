"""The span of an HTTP request that a handler makes, for handlers whose HTTP client does not make spans itself."""

from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from opentelemetry import trace as api
from opentelemetry.context import attach, detach
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, Status, StatusCode

from carafe.tracing import conventions as names


class Calling:
    """The span of one HTTP request. Send `headers` with the request, so that the server's spans join the same trace."""

    __slots__ = ("_span", "_token", "headers")

    def __init__(self, tracer: api.Tracer, method: str, url: str) -> None:
        parts = urlsplit(url)
        # Neither a password nor a query, where tokens stand.
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        self._span = tracer.start_span(
            method,
            kind=SpanKind.CLIENT,
            attributes={
                names.HTTP_METHOD: method,
                names.URL: shown,
                names.SERVER_ADDRESS: parts.hostname or "",
                names.SERVER_PORT: port,
            },
        )
        self._token: Any = None
        self.headers: dict[str, str] = {}

    def __enter__(self) -> "Calling":
        self._token = attach(api.set_span_in_context(self._span))
        inject(self.headers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        detach(self._token)
        if error is not None:
            self._span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
        self._span.end()

    def answered(self, status: int) -> None:
        """Record the status of the response."""
        self._span.set_attribute(names.HTTP_STATUS, status)
        if status >= 400:
            self._span.set_attribute(names.ERROR_TYPE, str(status))
            self._span.set_status(Status(StatusCode.ERROR))
