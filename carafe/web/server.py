"""Runs a web application: uvicorn on a socket bound here, so that a port that is taken is said in words.

`run_web` is the process of ``carafe serve``; `WebServer` runs inside another process's loop (``carafe dev``) and leaves
the signals to it. Either way requests in hand are finished within DRAIN_TIMEOUT.
"""

import asyncio
import contextlib
import importlib
import inspect
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from carafe.logging import get_logger
from carafe.settings import Settings

log = get_logger(__name__)


class CannotServe(RuntimeError):
    """The web application cannot be loaded, cannot start, or cannot have its port; the text says which setting."""


class WebServer:
    """One web application on one port. `serve` runs it, `stop` ends it, from any code of the same loop."""

    def __init__(self, application: Any, settings: Settings) -> None:
        """Binds HOST and PORT at once (0: a port that the system picks). Raises `CannotServe` when that cannot be."""
        self._socket = _bound(settings.host, settings.port)
        self.host = settings.host
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            server_header=False,
            # After this the rest is cut off; uvicorn wants whole seconds.
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
        )
        self._server = _Server(config)

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

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.ready is not None:
            self.ready()


async def serve(application: Any, settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Serve `application` until this task is cancelled. Raises `CannotServe`."""
    await WebServer(application, settings).serve(ready=ready)


def run_web(settings: Settings) -> int:
    """The web process: WEB_APPLICATION until SIGTERM or Ctrl-C (twice: at once). Returns the exit code.

    Raises `CannotServe` before anything was served.
    """
    application = load_application(settings)
    web = WebServer(application, settings)

    def stop(number: int, frame: FrameType | None) -> None:
        web.stop(hurry=web.stopping)

    def say() -> None:
        log.info("serving", url=web.url, application=settings.web_application)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _run(web, say)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    log.info("stopped")
    return 0


def _run(web: WebServer, ready: Callable[[], None]) -> None:
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


def _bound(host: str, port: int) -> socket.socket:
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
        setting = "HOST" if isinstance(error, socket.gaierror) else "PORT"
        raise CannotServe(f"{setting}: cannot listen on {host}:{port}: {error.strerror}") from error
    return listener
