"""`carafe dev`: runs Postgres, Valkey, web, dashboard and worker from one process, for development.

1. Servers (`carafe.dev.servers`). Where DATABASE_URL or REDIS_URL is not set, an embedded server is started, which keeps its
   data in DATA_DIR. Then the schema is upgraded.
2. Web and dashboard run in the main thread's event loop, the worker in threads of its own.
3. At Ctrl-C or SIGTERM the worker drains first, while the web process still answers, since handlers may be calling it. Then
   the web process finishes its requests, and the servers stop last. A second Ctrl-C stops at once what still runs.

Guarantees: every accepted job is still there after the next start, however this run ended.
Must never: run in production, or start without a clear error when a port is taken.
"""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from carafe import __version__, tracing
from carafe.dev.folder import one_at_a_time
from carafe.dev.ports import with_free_ports
from carafe.dev.servers import require_development, servers_where_unset
from carafe.dev.stopping import Stopping
from carafe.settings.application_folder import require_application
from carafe.settings.settings import Settings, redact_url
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.engine.worker import WorkerThread
    from carafe.serving import WebServers

log = get_logger("carafe.dev.run")

WORKER_START = 30.0
"""Seconds that the worker may take to start before a warning is logged."""

DRAIN_MARGIN = 10.0
"""A worker that drains is waited for during DRAIN_TIMEOUT and this many seconds more."""


def run_dev(settings: Settings, *, pipe: int | None = None) -> int:
    """Runs everything until Ctrl-C or SIGTERM, or until the process that has started this one says so (`pipe`: see
    `carafe.dev.stopping`). Returns the exit code.

    Raises SettingsError in production, when the settings name no application, when a port is taken and when DATA_DIR cannot
    be used, `RunsAlready` when another `carafe dev` runs on it, EmbeddedServerError when an embedded server cannot be
    started, `ModuleNotUsable` when a module of the settings cannot be imported, and `Unavailable` when Postgres cannot be
    used.
    """
    require_development(settings)
    require_application(settings)
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    with Stopping(pipe) as stopping, contextlib.ExitStack() as stack:
        stack.enter_context(one_at_a_time(settings, child=pipe is not None))
        settings = with_free_ports(settings)
        settings = stack.enter_context(servers_where_unset(settings, meanwhile=_import_ahead))
        if stopping.asked():
            return 0
        _prepare(settings)
        if stopping.asked():
            return 0
        return _run(settings, stopping)


def _import_ahead() -> None:
    """Import what is needed later, a second or two of one processor, while the servers start on another."""
    import carafe.engine.worker
    import carafe.serving
    import carafe.store.migrating  # noqa: F401


def _prepare(settings: Settings) -> None:
    """Import the modules of jobs and handlers, so that their errors show before anything listens, and upgrade the schema."""
    from carafe.jobs.modules import load_handlers, load_jobs
    from carafe.store.migrating import migrate

    load_jobs(settings.job_modules)
    load_handlers(settings.handler_modules)
    for step in migrate(settings):
        log.info("schema upgraded", step=step)


def _run(settings: Settings, stopping: Stopping) -> int:
    tracing.start(settings, "carafe", __version__)
    try:
        return _run_all(settings, stopping)
    finally:
        tracing.stop()


def _run_all(settings: Settings, stopping: Stopping) -> int:
    from carafe.engine.worker import WorkerThread
    from carafe.serving import WebServers, load_application

    web = WebServers(load_application(settings), settings)
    # It may lead the upkeep too: WEB_APPLICATION may be any application, and then the web side hosts no steward.
    worker = WorkerThread(settings)
    make_loop = None
    if sys.platform != "win32":
        import uvloop

        make_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(_serve(web, worker, settings, stopping))


async def _serve(web: "WebServers", worker: "WorkerThread", settings: Settings, requests: Stopping) -> int:
    """Run web and worker. After a request to stop, drain the worker first, then stop the web. Returns the exit code."""
    loop = asyncio.get_running_loop()
    listening, stopping = asyncio.Event(), asyncio.Event()

    def on_ask(times: int) -> None:
        # From a signal handler, between any two instructions: everything else happens on the loop.
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended
            loop.call_soon_threadsafe(stopping.set)
            if times > 1:
                loop.call_soon_threadsafe(_hurry, web, worker)

    requests.on_ask = on_ask
    if requests.asked():
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
