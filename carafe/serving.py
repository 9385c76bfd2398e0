"""Runs the processes that serve HTTP: the web application and its dashboard together, or the dashboard alone."""

import asyncio
import inspect
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from carafe import forks
from carafe.named_modules import import_named
from carafe.process import gc_freeze, signals, stacks
from carafe.settings.settings import Settings
from carafe.settings.src_layout import not_installed
from carafe.telemetry.probes import metrics_served
from carafe.web.server import CannotServe, WebServer, log
from carafe.web.wsgi import ADVICE, is_wsgi

DASHBOARD_PATIENCE = 3.0
"""Seconds that requests to the dashboard get to finish. After that, the application in the same process begins to stop. A
few seconds are enough: the dashboard's SQL statements have a time limit, and its live streams end at once."""


class WebServers:
    """The web application on PORT and, if the setting DASHBOARD is on, the dashboard on DASHBOARD_PORT, run as one server.

    The dashboard uses the application's client. So the dashboard starts after the application and stops before it.
    """

    def __init__(self, application: Any, settings: Settings) -> None:
        """Binds the ports at once. Raises `CannotServe` when a port cannot be bound."""
        self._web = WebServer(application, settings)
        self._dashboard: WebServer | None = None
        if settings.dashboard:
            from carafe.dashboard.standalone import dashboard_beside

            dashboard = dashboard_beside(application, settings)
            self._dashboard = WebServer(dashboard, settings, port_setting="DASHBOARD_PORT", patience=DASHBOARD_PATIENCE)
        self.stopping = False
        """Whether `stop` was called."""

    @property
    def url(self) -> str:
        """The URL of the web application."""
        return self._web.url

    @property
    def dashboard_url(self) -> str | None:
        """The URL of the dashboard; None when the dashboard is not served."""
        return None if self._dashboard is None else self._dashboard.url

    async def serve(self, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop` is called. Calls `ready` once the application and the dashboard answer requests.

        Raises `CannotServe` if either of them cannot start.
        """
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
        """Accept no more requests and finish those that are running; with `hurry`, drop these too. A signal handler may call
        this."""
        self.stopping = True
        self._all()[-1].stop(hurry=hurry)
        if hurry:
            self._web.stop(hurry=True)

    def _all(self) -> list[WebServer]:
        return [self._web] if self._dashboard is None else [self._web, self._dashboard]


def run_web(settings: Settings) -> int:
    """Run the web process, which serves WEB_APPLICATION and the dashboard, until SIGTERM or Ctrl-C. Returns the exit code.

    A second signal stops the process at once. Raises `CannotServe` when the process cannot start, and SettingsError when the
    port METRICS_PORT is in use; either before anything is served.
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
    """Run the dashboard alone, with the pages that WEB_APPLICATION adds, until SIGTERM or Ctrl-C. Returns the exit code.

    The process runs the upkeep too, if the setting STEWARD is on. Raises the same errors as `run_web`.
    """
    from carafe.dashboard.standalone import dashboard_alone

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
        gc_freeze.started()
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
    """Returns the ASGI application that WEB_APPLICATION names. If the name is a function, returns what the function returns.

    The function may take the settings as an argument. Raises `CannotServe` when the module or the name is not found, and for
    a WSGI application.
    """
    module_name, _, name = settings.web_application.partition(":")
    name = name or "app"
    try:
        found = import_named(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the application itself imports is missing
        text = f"WEB_APPLICATION: no module {error.name!r} (in {settings.web_application!r}){not_installed(module_name)}"
        raise CannotServe(text) from error
    except AttributeError as error:
        raise CannotServe(f"WEB_APPLICATION: {module_name!r} has no {name!r}") from error
    _require_asgi(found, settings)
    made: Any = found
    if inspect.isfunction(made) and not inspect.iscoroutinefunction(made):
        takes = [
            parameter
            for parameter in inspect.signature(made).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        made = made(settings) if takes else made()
        _require_asgi(made, settings)
    return made


def _require_asgi(application: Any, settings: Settings) -> None:
    if is_wsgi(application):
        raise CannotServe(f"WEB_APPLICATION: {settings.web_application!r} is a WSGI application: {ADVICE}")
