"""`carafe dev`: runs Postgres, Valkey, web, dashboard and worker from one process, for development.

1. Servers. Where DATABASE_URL or REDIS_URL is not set, an embedded server is started, which keeps its data in DATA_DIR. Then
   the schema is upgraded.
2. Web and dashboard run in the main thread's event loop, the worker in threads of its own.
3. At Ctrl-C or SIGTERM the worker drains first, while the web process still answers, since handlers may be calling it. Then
   the web process finishes its requests, and the servers stop last. A second Ctrl-C stops at once what still runs.

Guarantees: every accepted job is still there after the next start, however this run ended.
Must never: run in production, or start without a clear error when a port is taken.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING, Any

from carafe import __version__, forks, tracing
from carafe.process.signals import ending
from carafe.settings.local_servers import Announcement, Servers, with_urls
from carafe.settings.settings import Settings, SettingsError, redact_url
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.engine.worker import WorkerThread
    from carafe.serving import WebServers

log = get_logger("carafe.dev.run")

WORKER_START = 30.0
"""Seconds that the worker may take to start before a warning is logged."""

DRAIN_MARGIN = 10.0
"""A worker that drains is waited for during DRAIN_TIMEOUT and this many seconds more."""


def run_dev(settings: Settings) -> int:
    """Runs everything until Ctrl-C or SIGTERM. Returns the exit code.

    Raises SettingsError in production and when a port is taken, EmbeddedServerError when an embedded server cannot be
    started, `ModuleNotUsable` when a module of the settings cannot be imported, and `Unavailable` when Postgres cannot be
    used.
    """
    if settings.environment == "production":
        raise SettingsError(["ENVIRONMENT: `carafe dev` is for development; production runs `carafe serve` and workers"])
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    settings = _with_free_ports(settings)
    with _Signals() as signals, contextlib.ExitStack() as stack:
        settings = stack.enter_context(_servers(settings))
        if signals.stop_asked():
            return 0
        _prepare(settings)
        if signals.stop_asked():
            return 0
        return _run(settings, signals)


# Signals.


class _Signals:
    """Handles the signals that end a process. For each signal, calls the function `on_ask` with the number of signals so
    far."""

    def __init__(self) -> None:
        self._asked = 0
        self.on_ask: Callable[[int], None] = lambda _: None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "_Signals":
        for number in ending():
            self._before[number] = signal.signal(number, self._ask)
        forks.leave_signals_behind()
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self.on_ask(self._asked)

    def stop_asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked > 0


# Servers.


def _with_free_ports(settings: Settings) -> Settings:
    """Returns the settings with a web port that is free: if PORT is 0, a free port takes its place.

    Raises SettingsError when PORT, DASHBOARD_PORT or PROBE_PORT is taken.
    """
    faults = []
    free = {}
    asked = [("PORT", settings.host), ("PROBE_PORT", settings.probe_host)]
    if settings.dashboard:
        asked.insert(1, ("DASHBOARD_PORT", settings.host))
    for setting, host in asked:
        number: int = getattr(settings, setting.lower())
        try:
            free[setting] = _free(host, number)
        except OSError as error:
            faults.append(_taken(setting, host, number, error))
    if faults:
        raise SettingsError(faults)
    port = free["PORT"]
    os.environ["PORT"] = str(port)  # for an application that reads its settings itself
    return settings.model_copy(update={"port": port})


def _free(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        number: int = probe.getsockname()[1]
        return number


def _taken(setting: str, host: str, port: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{setting}: cannot listen on {host}:{port} ({reason}); set {setting} to another port, or to 0 for a free one"


@contextlib.contextmanager
def _servers(settings: Settings) -> Iterator[Settings]:
    """Yields the settings with both server URLs set. If a URL was missing, an embedded server runs during the block."""
    missing = [name for name in ("database_url", "redis_url") if getattr(settings, name) is None]
    if not missing:
        yield settings
        return
    from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey

    servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {}
    if "database_url" in missing:
        servers["database_url"] = EmbeddedPostgres(settings.data_dir / "postgres")
    if "redis_url" in missing:
        servers["redis_url"] = EmbeddedValkey(settings.data_dir / "valkey")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        # Started at the same time; Valkey, the last one here, stops first.
        starts = [threads.submit(server.start) for server in servers.values()]
        for server in servers.values():
            stack.callback(server.stop)
        for start in starts:
            start.result()
        settings = with_urls(settings, **{name: server.url for name, server in servers.items()})
        assert settings.database_url is not None
        assert settings.redis_url is not None
        announcement = Announcement(
            settings.data_dir,
            Servers(settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()),
        )
        stack.callback(announcement.withdraw)
        yield settings


def _prepare(settings: Settings) -> None:
    """Import the modules of jobs and handlers, so that their errors show before anything listens, and upgrade the schema."""
    from carafe.jobs.modules import load_handlers, load_jobs
    from carafe.store.migrating import migrate

    load_jobs(settings.job_modules)
    load_handlers(settings.handler_modules)
    for step in migrate(settings):
        log.info("schema upgraded", step=step)


# Web and worker.


def _run(settings: Settings, signals: _Signals) -> int:
    tracing.start(settings, "carafe", __version__)
    try:
        return _run_all(settings, signals)
    finally:
        tracing.stop()


def _run_all(settings: Settings, signals: _Signals) -> int:
    from carafe.engine.worker import WorkerThread
    from carafe.serving import WebServers, load_application

    web = WebServers(load_application(settings), settings)
    # The web process beside it carries the steward.
    worker = WorkerThread(settings.model_copy(update={"steward": False}))
    make_loop = None
    if sys.platform != "win32":
        import uvloop

        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(_serve(web, worker, settings, signals))


async def _serve(web: "WebServers", worker: "WorkerThread", settings: Settings, signals: _Signals) -> int:
    """Run web and worker. After a signal, drain the worker first, then stop the web. Returns the exit code."""
    loop = asyncio.get_running_loop()
    listening, stopping = asyncio.Event(), asyncio.Event()

    def asked(times: int) -> None:
        # From a signal handler, between any two instructions: everything else happens on the loop.
        loop.call_soon_threadsafe(stopping.set)
        if times > 1:
            loop.call_soon_threadsafe(_hurry, web, worker)

    signals.on_ask = asked
    if signals.stop_asked():
        stopping.set()
    serving = asyncio.create_task(web.serve(ready=listening.set))
    serving.add_done_callback(lambda _: stopping.set())  # it never ends by itself, unless it failed
    code = 0
    try:
        await _first(listening.wait(), stopping.wait())
        if not stopping.is_set():
            worker.start()
            ended = _in_thread(lambda: worker.join(threading.TIMEOUT_MAX))
            code = await _attend(web, worker, ended, settings, stopping)
            log.info("stopping; press Ctrl-C again to stop everything at once")
            worker.drain()
            await asyncio.wait([ended], timeout=settings.drain_timeout + DRAIN_MARGIN)
            if not ended.done():
                log.warning("the worker has not ended; its jobs run again after the next start")
    finally:
        web.stop()
        await serving
    return code


async def _attend(
    web: "WebServers", worker: "WorkerThread", ended: "asyncio.Future[bool]", settings: Settings, stopping: asyncio.Event
) -> int:
    """Prints the banner when the worker has begun to take jobs, then waits for a stop request or the worker's end.

    Returns the exit code: 0, or the worker's if it has ended by itself.
    """
    ready = _in_thread(lambda: worker.ready(WORKER_START))
    await _first(ready, ended, stopping.wait())
    if ready.done() and not ended.done() and not stopping.is_set():
        if not ready.result():
            log.warning("the worker does not take jobs yet; the log says why")
        print(banner(web.url, web.dashboard_url, worker.probe_port, settings), flush=True)  # noqa: T201
        await _first(ended, stopping.wait())
    if ended.done() and not stopping.is_set() and worker.exit_code == 0:
        log.warning("the worker was asked to drain and has ended: nothing runs jobs until the next start")
        await stopping.wait()
        return 0
    if ended.done() and not stopping.is_set():
        log.error("the worker has ended by itself; the log says why")
        return worker.exit_code or 1
    return 0


def _in_thread(wait: Callable[[], bool]) -> "asyncio.Future[bool]":
    """Runs the function `wait` in a thread, and returns a future for its result.

    Unlike a thread of `asyncio.to_thread`, this thread does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def settle(value: bool) -> None:
        if not answer.done():
            answer.set_result(value)

    def watch() -> None:
        value = wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=watch, name="carafe dev", daemon=True).start()
    return answer


async def _first(*waits: "Coroutine[Any, Any, Any] | asyncio.Future[Any]") -> None:
    """Waits until one of `waits` is done. The other ones continue if they are futures, and are cancelled if they are
    coroutines."""
    tasks = [asyncio.create_task(wait) if asyncio.iscoroutine(wait) else wait for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, wait in zip(tasks, waits, strict=True):
        if task is not wait:
            task.cancel()


def _hurry(web: "WebServers", worker: "WorkerThread") -> None:
    worker.drain()
    web.stop(hurry=True)


def banner(url: str, dashboard: str | None, probe_port: int, settings: Settings) -> str:
    """Returns the text that `carafe dev` prints when it is ready: the URLs of everything that runs."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    probes = f"http://{settings.probe_host}:{probe_port}"
    lines = [
        ("web", url),
        *([("dashboard", dashboard)] if dashboard else []),
        ("API docs", f"{url}/docs"),
        ("health", f"{url}/health"),
        ("worker", f"{settings.worker_concurrency} slots; {probes}/readyz and {probes}/metrics"),
        ("Postgres", redact_url(settings.database_url.get_secret_value())),
        ("Redis", redact_url(settings.redis_url.get_secret_value())),
    ]
    if (settings.data_dir / "servers.json").exists():
        lines.append(("data", f"{settings.data_dir.absolute()} (kept)"))
    listed = "\n".join(f"    {name:<9} {where}" for name, where in lines)
    return f"\n  carafe {__version__}, development\n\n{listed}\n\n  Ctrl-C stops everything.\n"
