"""Runs a web application, and the dashboard beside it: uvicorn on sockets bound here, so that a port that is taken is said
in words.

`run_web` is the process of ``carafe serve``; `WebServers` run inside another process's loop (``carafe dev``) and leave the
signals to it. Either way requests in hand are finished within DRAIN_TIMEOUT; open streams are told to end (Stopping).
"""

import asyncio
import contextlib
import importlib
import inspect
import math
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import uvicorn

from carafe import collector, forks, signals, stacks
from carafe.logging import get_logger
from carafe.probes import metrics_served
from carafe.settings import Settings
from carafe.web.connections import Connections, with_descriptors
from carafe.web.stopping import Stopping

log = get_logger(__name__)


DASHBOARD_PATIENCE = 3.0
"""Seconds that requests of the dashboard get to finish before the application beside it begins to stop: its statements are
bounded, its streams end at once."""


KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than clients and balancers keep theirs, so that they are who end it.
(With uvicorn's 5, which is httpx's too, a request could cross the server's end of the connection.)"""

LINGER = 5.0
"""Seconds at most, when stopping, in which requests over kept connections are still answered, with `Connection: close`."""

QUIET = 1.0
"""Seconds without a request after which stopping goes on sooner."""


class CannotServe(RuntimeError):
    """The web application cannot be loaded, cannot start, or cannot have its port; the text says which setting."""


class WebServer:
    """One web application on one port. `serve` runs it, `stop` ends it, from any code of the same loop."""

    def __init__(
        self, application: Any, settings: Settings, *, port_setting: str = "PORT", patience: float | None = None
    ) -> None:
        """Binds HOST and the port of `port_setting` at once (0: a port that the system picks). Requests in hand get
        `patience` seconds, DRAIN_TIMEOUT unless given. Raises `CannotServe` when that cannot be."""
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
        """Where it is reached, from this machine at least."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def serve(self, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop`; calls `ready` once requests are answered. Raises `CannotServe` if the start fails."""
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
        """Stop taking requests and finish those in hand; with `hurry`, drop them."""
        self._server.should_exit = True
        if hurry:
            self._server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process, which may run more than this."""

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

    async def _say_goodbye(self) -> None:
        """Have clients end their kept connections: one that the server ends may have a request under way already."""
        if not self.started:
            return
        # The list is shared with the requests in hand, whose answers say it too.
        self.server_state.default_headers.append((b"connection", b"close"))
        until = time.monotonic() + self._linger
        while not self.force_exit and time.monotonic() < min(until, self._stopping.last_request + QUIET):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


class WebServers:
    """The web application on PORT and, where DASHBOARD says so, the dashboard on DASHBOARD_PORT, as one.

    The dashboard acts with the application's own client: it begins after the application and has ended before it ends.
    """

    def __init__(self, application: Any, settings: Settings) -> None:
        """Binds the ports at once. Raises `CannotServe` when that cannot be."""
        self._web = WebServer(application, settings)
        self._dashboard: WebServer | None = None
        if settings.dashboard:
            from carafe.web.dashboard.beside import dashboard_beside

            dashboard = dashboard_beside(application, settings)
            self._dashboard = WebServer(dashboard, settings, port_setting="DASHBOARD_PORT", patience=DASHBOARD_PATIENCE)
        self.stopping = False
        """Whether `stop` was called."""

    @property
    def url(self) -> str:
        """Where the application is reached."""
        return self._web.url

    @property
    def dashboard_url(self) -> str | None:
        """Where the dashboard is reached; None when it is not served."""
        return None if self._dashboard is None else self._dashboard.url

    async def serve(self, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop`; calls `ready` once both answer. Raises `CannotServe` if a start fails."""
        tasks: list[asyncio.Task[None]] = []
        try:
            for server in self._all():
                if self.stopping:
                    break
                answers = asyncio.Event()
                tasks.append(asyncio.create_task(server.serve(ready=answers.set)))
                answering = asyncio.create_task(answers.wait())
                await asyncio.wait([*tasks, answering], return_when=asyncio.FIRST_COMPLETED)
                answering.cancel()
                if any(task.done() for task in tasks):
                    break
            else:
                if ready is not None:
                    ready()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for server, task in reversed(list(zip(self._all(), tasks, strict=False))):
                server.stop()
                await asyncio.wait([task])
        for task in tasks:
            task.result()

    def stop(self, *, hurry: bool = False) -> None:
        """Stop taking requests and finish those in hand; with `hurry`, drop them. A signal handler may call it."""
        self.stopping = True
        self._all()[-1].stop(hurry=hurry)
        if hurry:
            self._web.stop(hurry=True)

    def _all(self) -> list[WebServer]:
        return [self._web] if self._dashboard is None else [self._web, self._dashboard]


async def serve(application: Any, settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Serve `application` until this task is cancelled. Raises `CannotServe`."""
    await WebServer(application, settings).serve(ready=ready)


def run_web(settings: Settings) -> int:
    """The web process: WEB_APPLICATION and its dashboard until SIGTERM or Ctrl-C (twice: at once). Returns the exit code.

    Raises `CannotServe`, or SettingsError (METRICS_PORT is taken), before anything was served.
    """
    web = WebServers(load_application(settings), settings)

    def say(metrics_port: int | None) -> None:
        log.info(
            "serving",
            url=web.url,
            application=settings.web_application,
            dashboard=web.dashboard_url,
            metrics=metrics_port,
        )

    if web.dashboard_url is not None:
        _say_if_closed(settings)
    return _run_until_signal(web, settings, say)


def run_dashboard(settings: Settings) -> int:
    """The dashboard alone, with the pages of WEB_APPLICATION, until SIGTERM or Ctrl-C. Returns the exit code.

    It carries the upkeep too (STEWARD). Raises like `run_web`.
    """
    from carafe.web.dashboard.beside import dashboard_alone

    web = WebServer(dashboard_alone(load_application(settings), settings), settings, port_setting="DASHBOARD_PORT")

    def say(metrics_port: int | None) -> None:
        log.info("serving", dashboard=web.url, metrics=metrics_port)

    _say_if_closed(settings)
    return _run_until_signal(web, settings, say)


def _say_if_closed(settings: Settings) -> None:
    if settings.dashboard_closed:
        log.info("the dashboard lets nobody in: DASHBOARD_USERS, DASHBOARD_USER_HEADER or DASHBOARD_OPEN say who may")


def _run_until_signal(web: WebServer | WebServers, settings: Settings, say: Callable[[int | None], None]) -> int:
    def stop(number: int, frame: FrameType | None) -> None:
        web.stop(hurry=web.stopping)

    def ready() -> None:
        collector.started()
        say(metrics_port)

    before = {number: signal.signal(number, stop) for number in signals.ending()}
    stacks.show_on_signal()
    forks.leave_signals_behind()
    try:
        with metrics_served(settings) as metrics_port:
            _run(web, ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log.info("stopped")
    return 0


def _run(web: WebServer | WebServers, ready: Callable[[], None]) -> None:
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(web.serve(ready=ready))


def load_application(settings: Settings) -> Any:
    """The ASGI application that WEB_APPLICATION names: the object itself, or what a function or class there makes.

    A function may take the settings. Raises `CannotServe`, saying what cannot be imported or found.
    """
    module_name, _, name = settings.web_application.partition(":")
    name = name or "app"
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the application itself imports is missing
        raise CannotServe(f"WEB_APPLICATION: no module {error.name!r} (in {settings.web_application!r})") from error
    except AttributeError as error:
        raise CannotServe(f"WEB_APPLICATION: {module_name!r} has no {name!r}") from error
    made: Any = found
    if inspect.isfunction(made) and not inspect.iscoroutinefunction(made):
        takes = [
            parameter
            for parameter in inspect.signature(made).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        made = made(settings) if takes else made()
    return made


def _bound(host: str, port: int, port_setting: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
