"""Runs one web application with uvicorn, on a socket that is bound here, so that a port in use gives a clear error.

`WebServer` handles no signals; its caller does (`carafe.serving` for ``carafe serve``, `carafe.dev.run` for ``carafe dev``).
When it stops, requests under way are finished within DRAIN_TIMEOUT, and open streams are asked to end
(`carafe.web.stopping`).
"""

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from carafe import forks
from carafe.settings.settings import Settings
from carafe.telemetry.loggers import get_logger
from carafe.web.connections import SEND_BUFFER, Connections, with_descriptors
from carafe.web.stopping import Stopping

log = get_logger(__name__)


KEEP_ALIVE = 75
"""Seconds that an idle connection is kept open. Clients and load balancers keep connections for a shorter time, so they
close a connection before the server does. With uvicorn's default of 5 s, which is also httpx's, a client could send a
request just when the server closes the connection."""

LINGER = 5.0
"""A server that stops still answers requests over kept-alive connections for at most this many seconds, with the header
`Connection: close`."""

QUIET = 1.0
"""A server that stops does not wait for the rest of `LINGER` once it has had no request for this many seconds."""


HURRIED = 1.0
"""Seconds that the application gets to end (its lifespan) when the server stops in a hurry."""


class CannotServe(RuntimeError):
    """The web application cannot be loaded or started, or its port cannot be used. The text says why and, where it can,
    names the setting."""


class WebServer:
    """One web application on one port. `serve` runs it. `stop` ends it, called from the same event loop."""

    def __init__(
        self, application: Any, settings: Settings, *, port_setting: str = "PORT", patience: float | None = None
    ) -> None:
        """Binds the socket at once: to HOST and to the port in the setting that `port_setting` names. If that port is 0, the
        system picks one.

        When the server stops, requests under way get `patience` seconds, but no more than DRAIN_TIMEOUT. Raises
        `CannotServe` when the port cannot be bound.
        """
        self._socket = _bound(settings.host, getattr(settings, port_setting.lower()), port_setting)
        self.host = settings.host
        self.port: int = self._socket.getsockname()[1]
        forks.keep_to_ourselves([self._socket.fileno()])
        self._stopping = Stopping()
        connections = Connections(with_descriptors(settings.web_connections), port_setting)
        config = uvicorn.Config(
            self._stopping.marks(application),
            interface="asgi3",
            # A function, where uvicorn's types want a class.
            http=cast(type[asyncio.Protocol], connections.protocol),
            ws="none",
            lifespan="on",
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            # Anybody can write X-Forwarded-For: the peer is who it is, and the settings say which peers are proxies.
            proxy_headers=False,
            # After this the rest is cut off; uvicorn wants whole seconds.
            timeout_graceful_shutdown=math.ceil(min(settings.drain_timeout, patience or math.inf)),
        )
        # A browser has a stream that ends, and asks again; a service that calls the API may not ask twice.
        self._server = _Server(config, self._stopping, linger=LINGER if port_setting == "PORT" else 0.0)

    @property
    def url(self) -> str:
        """The URL at which this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def serve(self, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop` is called. Calls `ready` once requests are answered.

        Raises `CannotServe` when the application cannot start.
        """
        self._server.ready = ready
        try:
            await self._server.serve(sockets=[self._socket])
        except SystemExit:
            raise CannotServe("the web application could not start; the log says why") from None
        except asyncio.CancelledError:
            # Cancelled from outside: what was opened at the start is still closed.
            if self._server.started and not self._server.should_exit:
                self._server.force_exit = False
                await self._server.shutdown(sockets=[self._socket])
            raise
        finally:
            forks.let_go([self._socket.fileno()])
            self._socket.close()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._server.should_exit

    def stop(self, *, hurry: bool = False) -> None:
        """Take no more requests, and finish those under way or, with `hurry`, drop them."""
        self._server.should_exit = True
        if hurry:
            self._server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers. The process handles signals, since it may run more than this server."""

    ready: Callable[[], None] | None = None

    def __init__(self, config: uvicorn.Config, stopping: Stopping, *, linger: float) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._linger = linger

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.ready is not None:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.begin()
        await self._say_goodbye()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves the application's own shutdown out then. It would be cancelled, and its clients left open.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lifespan.shutdown(), HURRIED)

    async def _say_goodbye(self) -> None:
        """Ask clients to close their kept-alive connections, and answer requests meanwhile.

        If the server closed a connection itself, a request might already be on its way and would be lost.
        """
        if not self.started:
            return
        # The list is shared with the requests in hand, whose answers say it too.
        self.server_state.default_headers.append((b"connection", b"close"))
        until = time.monotonic() + self._linger
        while not self.force_exit and time.monotonic() < min(until, self._stopping.last_request + QUIET):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def serve(application: Any, settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Serve `application` until this task is cancelled. Raises `CannotServe` if the application cannot be served."""
    await WebServer(application, settings).serve(ready=ready)


def _bound(host: str, port: int, port_setting: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Each connection inherits these. Without the second the body of an answer, written after its head, would wait
            # for the client's acknowledgement of the head, which may take 40 ms.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(address)
            listener.listen(2048)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        setting = "HOST" if isinstance(error, socket.gaierror) else port_setting
        raise CannotServe(f"{setting}: cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
