"""Traces by OpenTelemetry: HTTP request, enqueue, wait, attempts, and within them the handler's own spans.

Tracing is off unless TRACING_SAMPLE_RATIO is above 0. While it is off, OpenTelemetry is not imported here, and the only cost
is that each batch of enqueued jobs and each run of a job reads the variable `active`. A process that traces calls `start`
after it has read its settings, and `stop` when it ends. The worker, `carafe_lifespan` and `carafe dev` do so.

Guarantees: a separate thread sends the spans. If the receiver cannot be reached or hangs, that delays no job, and it delays
the end of the process by `STOP` seconds at most. Spans that cannot be sent are dropped.
Must never: fail a job or an enqueue, or put a job's arguments or result into a span.
"""

import threading
from typing import TYPE_CHECKING

from carafe.tracing.context import Trace, parse, trace_url
from carafe.tracing.untraced import NotCalling, NotSending

if TYPE_CHECKING:
    from carafe.settings.settings import Settings
    from carafe.tracing.call_spans import Calling
    from carafe.tracing.enqueue_spans import Sending
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
"""The maximum number of seconds that a process waits at its end until its last spans are sent."""

active: "Tracing | None" = None
"""The tracing of this process; None while tracing is off."""

_lock = threading.Lock()
_users = 0


def start(settings: "Settings", service: str, version: str) -> None:
    """Trace from now on, if the settings say so. `service` is this process's name in traces unless OTEL_SERVICE_NAME gives
    one; `version` is this library's.

    `start` may be called several times. Then the first call's arguments are used, and tracing ends when `stop` has been
    called as many times as `start`. Raises `SettingsError` when OpenTelemetry is not installed.
    """
    global active, _users
    if settings.tracing_sample_ratio <= 0:
        return
    with _lock:
        if active is None:
            from carafe.tracing.tracer import begin

            active = begin(settings, service, version)
        if active is not None:
            _users += 1


def require(settings: "Settings") -> None:
    """Raises `SettingsError` when the settings switch tracing on but OpenTelemetry's SDK is not installed."""
    if settings.tracing_sample_ratio > 0:
        import carafe.tracing.tracer  # noqa: F401  it says what is missing


def stop() -> None:
    """Stop tracing. Sends the spans that are left, which takes `STOP` seconds at most. Does nothing when tracing is off."""
    global active, _users
    with _lock:
        if active is None:
            return
        _users -= 1
        if _users > 0:
            return
        tracing, active = active, None
    tracing.close(STOP)


def calling(method: str, url: str) -> "Calling | NotCalling":
    """Returns a span for an HTTP request that a handler makes. Use it as ``with calling("POST", url) as call``.

    Send `call.headers` with the request, and pass the response's status to `call.answered`. The span shows the URL without
    its query and password. An HTTP client with OpenTelemetry's own instrumentation needs none of this.
    """
    return NotCalling() if active is None else active.calling(method, url)


def sending(trace: str | None, jobs: int = 1) -> "Sending | NotSending":
    """Returns a span for the enqueueing of a batch. Use it as ``with sending(trace, len(jobs)) as span``.

    `trace` is the traceparent of the caller's span; None means the current span. Store `span.trace` with the jobs: it is
    their place in the trace.
    """
    return NotSending(trace) if active is None else active.sending(trace, jobs)
