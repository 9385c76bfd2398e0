"""The HTTP server for machines: `/metrics` for Prometheus, and a worker's `/livez`, `/readyz`, `/startupz` for Kubernetes.

A worker serves it on PROBE_PORT. A web process, or a steward that runs alone, serves only `/metrics`, on METRICS_PORT. So
the metrics are neither on the application's public port nor on the dashboard's port.

Guarantees: the server answers from a thread and an event loop of its own, however busy the worker is. A client that is slow,
sends nothing or sends nonsense does not delay the answers to other clients.
Must never: ask the broker or the database (a probe's answer must not depend on them), or do anything but read.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Protocol

from carafe import forks
from carafe.settings.settings import Settings, SettingsError
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.telemetry.probes")

CLIENT_TIMEOUT = 2.0
"""Seconds that a client has to send its request. It has as many seconds again to read the answer."""

REQUEST_LIMIT = 8_192
"""The maximum number of bytes that the head of a request may have."""

CONNECTIONS = 64
"""The maximum number of connections at a time. When another one comes, the oldest is closed, so that a probe always gets
in."""

TEXT = "text/plain; charset=utf-8"


class ProbeChecks(Protocol):
    """The checks behind a worker's probes. Each returns None when all is well. Otherwise it returns the problem in a few
    words.

    They are called on the probe server's thread, so they must be quick, and may use only data in memory.
    """

    def livez(self) -> str | None:
        """Checks that the worker's event loops move. If not, Kubernetes restarts the container."""

    def readyz(self) -> str | None:
        """Checks that the worker takes jobs from the queue. It takes none before its consumer has connected to Redis, and
        none while it drains. A worker whose slots are all busy is ready."""

    def startupz(self) -> str | None:
        """Checks that the worker has started. Until then, Kubernetes calls no other probe."""


class ProbeServer:
    """Serves `checks` and the metrics over HTTP at `host`:`port` from `start()` to `stop()`. With port 0 a free port is
    chosen, which `start()` returns. `setting` is the name of the setting for the port: the error that is raised for a port
    in use names it."""

    def __init__(self, host: str, port: int, checks: ProbeChecks | None = None, *, setting: str = "PROBE_PORT") -> None:
        self._host, self.port, self._setting = host, port, setting
        self._probes: dict[str, Callable[[], str | None]] = {}
        if checks is not None:
            self._probes = {"/livez": checks.livez, "/readyz": checks.readyz, "/startupz": checks.startupz}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: dict[asyncio.Task[None], None] = {}

    def start(self) -> int:
        """Starts to listen, and returns the port. Raises SettingsError when the address cannot be used."""
        loop = asyncio.SelectorEventLoop()
        try:
            server = loop.run_until_complete(
                asyncio.start_server(self._connected, self._host, self.port, limit=REQUEST_LIMIT)
            )
        except OSError as error:
            loop.close()
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            fault = (
                f"{self._setting}: the health server cannot listen on {self._host}:{self.port} ({reason}); "
                f"set {self._setting} to another port, or to 0 for a free one"
            )
            raise SettingsError([fault]) from None
        self.port = server.sockets[0].getsockname()[1]
        self._loop = loop
        self._thread = threading.Thread(target=self._run, args=(loop, server), name="carafe probes", daemon=True)
        self._thread.start()
        return self.port

    def stop(self) -> None:
        """Stops listening and closes every connection. Does nothing when already stopped."""
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(CLIENT_TIMEOUT)

    def _run(self, loop: asyncio.AbstractEventLoop, server: asyncio.Server) -> None:
        asyncio.set_event_loop(loop)
        listening = [one.fileno() for one in server.sockets]
        forks.keep_to_ourselves(listening)
        try:
            loop.run_forever()
        finally:
            forks.let_go(listening)
            server.close()
            for task in list(self._open):
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._open, return_exceptions=True))
            loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS:
            next(iter(self._open)).cancel()
        self._open[task] = None
        writer.transport.set_write_buffer_limits(high=0)
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head))
            async with asyncio.timeout(CLIENT_TIMEOUT):
                await writer.drain()  # to the last byte
                writer.write_eof()
                # Closing with unread input would reset the connection, and the client might lose the answer.
                await reader.read(REQUEST_LIMIT)
        except asyncio.LimitOverrunError:
            writer.write(_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too large"))
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # A client that went away, or is too slow. Closing would wait for it to take the answer.
            writer.transport.abort()
        finally:
            self._open.pop(task, None)
            with contextlib.suppress(Exception):
                writer.close()

    def _answer(self, head: bytes) -> bytes:
        line, _, fields = head.partition(b"\r\n")
        match line.split(b" "):
            case [(b"GET" | b"HEAD") as method, target, version] if version.startswith(b"HTTP/1."):
                response = self._respond(target.partition(b"?")[0].decode("latin-1"), fields)
                return response if method == b"GET" else response[: response.index(b"\r\n\r\n") + 4]
            case [_, _, version] if version.startswith(b"HTTP/1."):
                return _response(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only", extra="Allow: GET, HEAD\r\n")
            case _:
                return _response(HTTPStatus.BAD_REQUEST, "not an HTTP/1 request")

    def _respond(self, path: str, fields: bytes) -> bytes:
        if path == "/metrics":
            return _metrics(fields)
        probe = self._probes.get(path)
        if probe is None:
            return _response(HTTPStatus.NOT_FOUND, f"try {', '.join([*self._probes, '/metrics'])}")
        try:
            reason = probe()
        except Exception as error:  # a check that fails must read as a failing check, not as silence
            log.exception("probe failed", path=path)
            reason = f"the check failed: {type(error).__name__}: {error}"
        if reason is None:
            return _response(HTTPStatus.OK, "ok")
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, reason)


@contextlib.contextmanager
def metrics_served(settings: Settings) -> Iterator[int]:
    """Serve `/metrics` on METRICS_PORT while the block runs. Yields the port. Raises SettingsError when the port is
    taken."""
    server = ProbeServer(settings.probe_host, settings.metrics_port, setting="METRICS_PORT")
    port = server.start()
    try:
        yield port
    finally:
        server.stop()


def _metrics(fields: bytes) -> bytes:
    # Imported at the first scrape: a worker's start does not pay for it.
    from prometheus_client.exposition import choose_encoder

    from carafe.telemetry.instruments import registry

    accept = ""
    for field in fields.decode("latin-1").split("\r\n"):
        name, _, value = field.partition(":")
        if name.strip().lower() == "accept":
            accept = value.strip()
    try:
        encode, content_type = choose_encoder(accept)
        body = encode(registry())
    except Exception as error:
        log.exception("metrics could not be rendered")
        return _response(HTTPStatus.INTERNAL_SERVER_ERROR, f"metrics could not be rendered: {type(error).__name__}")
    return _response(HTTPStatus.OK, body, content_type)


def _response(status: HTTPStatus, body: str | bytes, content_type: str = TEXT, extra: str = "") -> bytes:
    content = body if isinstance(body, bytes) else f"{body}\n".encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-store\r\n"
        f"X-Content-Type-Options: nosniff\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + content
