"""Traces by OpenTelemetry: HTTP request, enqueue, wait, attempts, and within them the handler's own spans.

Off unless TRACING_SAMPLE_RATIO is above 0. While it is off, nothing of OpenTelemetry is imported here, and what it costs is
a look at `active` for each batch that is enqueued and each job that is run. A process that traces calls `start` once its
settings are read, and `stop` when it ends; the worker, `carafe_lifespan` and `carafe dev` do.

Guarantees: spans are sent by a thread of its own; a receiver that is away or hangs delays no job, and the process's end by
`STOP` seconds at most; what cannot be sent is dropped.
Must never: fail a job or an enqueue, or put a job's arguments or result into a span.
"""

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING

from carafe.tracing.context import Trace, parse, trace_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from carafe.jobs.records import Enqueued
    from carafe.settings import Settings
    from carafe.tracing.calling import Calling
    from carafe.tracing.sending import Sending
    from carafe.tracing.tracer import Tracing

__all__ = [
    "STOP",
    "NotCalling",
    "NotSending",
    "Trace",
    "active",
    "calling",
    "parse",
    "require",
    "sending",
    "start",
    "stop",
    "trace_url",
]

STOP = 1.5
"""Seconds that the end of a process waits for its last spans to be sent."""

active: "Tracing | None" = None
"""What this process traces with; None while tracing is off."""

_lock = threading.Lock()
_users = 0


def start(settings: "Settings", service: str) -> None:
    """Trace from now on, if the settings say so; `service` is this process's name unless OTEL_SERVICE_NAME gives one.

    Each call wants its `stop`; the first one counts. Raises `SettingsError` when OpenTelemetry is not installed.
    """
    global active, _users
    if settings.tracing_sample_ratio <= 0:
        return
    with _lock:
        if active is None:
            from carafe.tracing.tracer import begin

            active = begin(settings, service)
        if active is not None:
            _users += 1


def require(settings: "Settings") -> None:
    """Raises `SettingsError` when the settings say to trace and OpenTelemetry's SDK is not installed."""
    if settings.tracing_sample_ratio > 0:
        import carafe.tracing.tracer  # noqa: F401  it says what is missing


def stop() -> None:
    """Send what is left, for `STOP` seconds at most, and trace no more. Harmless when nothing was started."""
    global active, _users
    with _lock:
        if active is None:
            return
        _users -= 1
        if _users > 0:
            return
        tracing, active = active, None
    tracing.close(STOP)


class NotSending:
    """What `sending` gives while tracing is off: the caller's own trace context travels as it is."""

    __slots__ = ("rest", "trace")

    def __init__(self, trace: str | None) -> None:
        self.trace = self.rest = trace

    def __enter__(self) -> "NotSending":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", traceback: "TracebackType | None"
    ) -> None:
        pass

    def sent(self, answers: "list[Enqueued]") -> "list[Enqueued]":
        """The answers, as they are."""
        return answers


class NotCalling:
    """What `calling` gives while tracing is off."""

    headers: "Mapping[str, str]" = MappingProxyType({})

    def __enter__(self) -> "NotCalling":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", traceback: "TracebackType | None"
    ) -> None:
        pass

    def answered(self, status: int) -> None:
        """Nobody is told."""


def calling(method: str, url: str) -> "Calling | NotCalling":
    """A span for an HTTP request that a handler makes: ``with calling("POST", url) as call``.

    Send `call.headers` with it, and tell `call.answered` the status. The URL is shown without its query and password. A
    client that has OpenTelemetry's own instrumentation needs none of this.
    """
    if active is None:
        return NotCalling()
    from carafe.tracing.calling import Calling

    return Calling(active, method, url)


def sending(trace: str | None, jobs: int = 1) -> "Sending | NotSending":
    """A span for the enqueueing of a batch: ``with sending(trace, len(jobs)) as span``.

    `trace` is a traceparent that the caller has brought; None: the span that is current. The jobs' own context is
    `span.trace`.
    """
    return NotSending(trace) if active is None else active.sending(trace, jobs)
