"""The worker process: Celery's worker with our engine, signals and probes.

1. at its start it imports the application's modules, refuses unsupported settings, and starts engine, consumer and probes
2. at SIGTERM, SIGINT or SIGHUP, or when an operator asks, it drains (stops taking hints, lets running jobs finish, hands
   back the rest), and ends with code 0
3. at a second signal it asks running jobs to stop now; an operator's request does not count as the first
4. at SIGUSR1 it writes the stacks of all threads and tasks to the log
Only a worker in the main thread handles signals. Inside `carafe dev` the worker runs in another thread, and `carafe dev`
drains it.
"""

import atexit
import contextlib
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import bootsteps
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning, ImproperlyConfigured
from celery.platforms import SecurityWarning
from celery.worker import state as celery_state
from redis.exceptions import ResponseError

from carafe import __version__, forks, tracing
from carafe.engine import control
from carafe.engine.ahead import import_for_transactions
from carafe.engine.engine import Engine
from carafe.engine.metrics import expose_engine
from carafe.engine.pool import EnginePool
from carafe.engine.transport import BatchChannel, BatchTransport
from carafe.jobs.handlers import handlers
from carafe.jobs.modules import load_handlers, load_jobs
from carafe.jobs.queue_name import QUEUE
from carafe.process import gc_freeze, signals, stacks
from carafe.queue import redis_away, redis_clients
from carafe.settings.application_folder import no_handlers
from carafe.telemetry.loggers import get_logger
from carafe.telemetry.probes import ProbeServer

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

log = get_logger("carafe.worker")

STALE = 30.0
"""`/livez` fails if for this many seconds the consumer's or the engine's loop has not turned, or the heartbeat has not tried
to beat."""


AT_EXIT = 3.0
"""At the end of the process, functions that were registered with ``atexit`` may run for this many seconds."""


class ConsumerSide:
    """Celery's side of a worker, as the engine needs it; see `carafe.engine.hint_returns.Consumer`."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis_clients.connect(redis_url, timeout=2, name="carafe-worker")
        self.away: str | None = "not connected yet"
        """A text that says why no hints are taken from Redis; None while the consumer takes them."""
        self.hub: Any = None
        self.channel: BatchChannel | None = None

    def wake(self) -> None:
        """Make Celery's event loop (the hub) ask again whether the engine has room for hints."""
        if self.hub is not None:
            self.hub.call_soon(_nothing)

    def require(self) -> None:
        """Raises the error of Redis or of its client when hints cannot be popped now. Pops nothing: it asks for zero
        messages, which Redis refuses only after it has checked the user's rights, its own role and its state.
        """
        try:
            self._redis.execute_command(  # type: ignore[no-untyped-call]
                "BLMPOP", 0.01, 1, QUEUE, "RIGHT", "COUNT", 0
            )
        except ResponseError as error:
            if "count should be" not in str(error):
                raise
        self._redis.llen(QUEUE)  # that it is a list is seen by looking at it

    def push_back(self, messages: Sequence[bytes]) -> None:
        """Push hints back to the end of the list from which they were popped. If Redis is away, these hints are lost; the
        steward pushes new ones."""
        try:
            self._redis.rpush(QUEUE, *reversed(messages))
        except redis_away.errors() as error:
            reason = redis_away.details(error)
            log.warning("hints not pushed back; the steward will push them", count=len(messages), error=reason)

    def stop_taking(self) -> None:
        """Make Redis end the pop of hints that waits there, at once."""
        channel = self.channel
        if channel is not None:
            try:
                channel.unblock()
            except Exception as error:
                log.info("could not end the outstanding pop; it ends by itself", error=type(error).__name__)
        self.wake()

    def close(self) -> None:
        """Close the connection to Redis."""
        with contextlib.suppress(*redis_away.errors()):
            self._redis.close()


def _nothing() -> None:
    pass


def _others() -> list[threading.Thread]:
    """Returns the threads for which Python would wait at exit."""
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]


def _exit_functions_return() -> bool:
    """Run the functions registered with ``atexit``, including those of handlers. Returns False if they have not all returned
    after `AT_EXIT` seconds."""
    thread = threading.Thread(target=atexit._run_exitfuncs, name="carafe exit", daemon=True)
    thread.start()
    thread.join(AT_EXIT)
    return not thread.is_alive()


class EngineStep(bootsteps.StartStopStep):
    """The step of Celery's worker that starts the engine before the consumer, and stops it after the consumer."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")

    def start(self, worker: Any) -> None:
        """Start the engine. From now on, the consumer may hand hints over to it."""
        worker.side.hub = worker.hub
        worker.hub.on_tick.add(worker.engine.tick_consumer)
        worker.engine.start()
        # A worker lifespan has failed or blocks the loop, or the worker was drained while it started.
        if worker.engine.stopped.is_set() or worker.engine.entering is not None:
            raise SystemExit(1 if worker.engine.failed else 0)

    def stop(self, worker: Any) -> None:
        """End the engine. If it has not been drained yet, drain it before."""
        engine = worker.engine
        if not (engine.draining or engine.stopped.is_set()):
            engine.drain(worker.app.carafe_settings.drain_timeout)
        engine.stop()
        worker.side.close()

    terminate = stop


class Worker(CeleryWorker):
    """Celery's worker program as Carafe runs it."""

    def __init__(self, app: Any = None, pool_cls: Any = None, **options: Any) -> None:
        # Celery's command line passes `pool`, callers in code `pool_cls`, whose default is already ours.
        if {pool_cls, options.pop("pool", None)} - {None, EnginePool}:
            raise ImproperlyConfigured(
                "other pools (-P) would run jobs without a claim: leave -P out; WORKER_CONCURRENCY sets the slots"
            )
        for option, word in (
            ("beat", "-B (schedules live in Postgres)"),
            ("autoscale", "--autoscale (scale replicas)"),
        ):
            if options.get(option):
                raise ImproperlyConfigured(f"{word} is not supported by a Carafe worker")
        queues = options.get("queues")
        if queues and [queue for queue in queues if queue != QUEUE]:
            raise ImproperlyConfigured(f"there is one queue, {QUEUE!r}: leave -Q out (got {', '.join(queues)})")
        options |= {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
        self.install_signals: bool = options.pop("install_signals", True)
        warnings.filterwarnings("ignore", category=SecurityWarning)  # about pickle; only JSON is accepted here
        super().__init__(app=app, pool_cls=EnginePool, **options)

    def on_before_init(self, **options: Any) -> None:
        """Import the application's modules and make the engine, before Celery builds its parts."""
        super().on_before_init(**options)
        settings: Settings = self.app.carafe_settings
        concurrency = options.get("concurrency")
        if concurrency:
            settings = settings.model_copy(update={"worker_concurrency": int(concurrency)})
        load_jobs(settings.job_modules)
        load_handlers(settings.handler_modules)
        import_for_transactions()
        if not handlers():
            named = ", ".join(settings.handler_modules)
            raise ImproperlyConfigured(
                f"HANDLER_MODULES ({named}) register no handler: nothing could ever run" if named else no_handlers()
            )
        assert settings.redis_url is not None
        self.settings = settings
        tracing.start(settings, "carafe-worker", __version__)
        self.engine = Engine(settings, name=self.hostname)
        self.side = ConsumerSide(settings.redis_url.get_secret_value())
        self.engine.consumer = self.side
        self.engine.drain_asked = self._asked_to_drain
        self.engine.died = self._engine_died
        EnginePool.engine = self.engine
        BatchTransport.engine = self.engine
        control.install(self.engine, self._revoke)
        self._unexpose = expose_engine(self.engine)
        self._drain: threading.Thread | None = None
        self._asking = threading.Lock()
        self._signalled = False
        self.probes = ProbeServer(settings.probe_host, settings.probe_port, Checks(self.engine, self.side))
        # Here and not in on_start, where Celery would turn a port that is taken into a traceback.
        self.probes.start()

    def setup_defaults(self, concurrency: Any = None, **options: Any) -> None:
        """Use the concurrency from the settings. If the command line has ``-c``, use that number instead."""
        super().setup_defaults(concurrency=concurrency or self.settings.worker_concurrency, **options)

    def on_start(self) -> None:
        """Log that the worker starts, and silence a warning that Celery would give about one of Carafe's settings."""
        super().on_start()
        # Celery warns about a setting of ours at each lost connection. Filtered here, since Celery enables such warnings at
        # its start.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        log.info(
            "worker starting",
            name=self.hostname,
            slots=self.engine.concurrency,
            kinds=self.engine.kinds,
            probes=self.probes.port,
        )

    def start(self) -> None:
        """Run until the worker has drained. If the worker is the whole process, the process exits here, even if handlers
        left threads that would block its exit."""
        super().start()
        if not self._owns_process:
            return
        if self.engine.held_up or _others():
            log.warning("exiting although threads that handlers started still run")
        elif _exit_functions_return():
            return
        else:
            log.warning("exiting although functions registered with atexit have not returned")
        with contextlib.suppress(Exception):
            logging.shutdown()
        os._exit(self.exitcode or 0)

    @property
    def _owns_process(self) -> bool:
        return self.install_signals and threading.current_thread() is threading.main_thread()

    def install_platform_tweaks(self, worker: Any) -> None:
        """Install Carafe's signal handlers in place of Celery's."""
        if self._owns_process:
            for number in signals.ending():
                signal.signal(number, self._on_signal)
            forks.leave_signals_behind()
            stacks.show_on_signal(lambda: self.engine.loops)

    def _on_signal(self, number: int, frame: Any) -> None:
        # Little may be done inside a signal handler: a thread takes it from here.
        threading.Thread(target=self.begin_drain, name="carafe signal", daemon=True).start()

    def begin_drain(self) -> None:
        """Do what a signal asks for: start to drain, and end the worker afterwards. A second call asks running jobs to stop
        now. The first call during a drain that an operator requested changes nothing. Returns at once."""
        with self._asking:
            again, self._signalled = self._signalled, True
            began = self._start_drain()
        if again:
            log.info("running jobs are asked to stop now")
            self.engine.hurry()
        elif not began:
            said = "asked to end during a drain that an operator requested: the drain goes on"
            log.info(f"{said}; another signal stops running jobs")

    def _asked_to_drain(self, why: str) -> None:
        """Start the drain that an operator requested (`Client.drain_worker`), or that the end of a worker lifespan makes
        necessary, unless one has begun. Each heartbeat repeats an operator's request; unlike a second signal, a repetition
        does not stop running jobs."""
        with self._asking:
            began = self._start_drain()
        if began:
            log.info(why)

    def _start_drain(self) -> bool:
        """Start the drain. Returns False when one has begun before."""
        if self._drain is not None:
            return False
        self._drain = threading.Thread(target=self._drain_and_end, name="carafe drain", daemon=True)
        self._drain.start()
        return True

    def _engine_died(self) -> None:
        """End the process with exit code 1, since without its engine this worker cannot run jobs. Its supervisor is expected
        to start another."""
        celery_state.should_stop = 1
        self.side.wake()

    def _drain_and_end(self) -> None:
        running = len(self.engine.running())
        log.info("draining", running=running, timeout=self.settings.drain_timeout)
        began = time.monotonic()
        clean = self.engine.drain(self.settings.drain_timeout)
        log.info("drained", clean=clean, seconds=round(time.monotonic() - began, 2))
        celery_state.should_stop = 1 if self.engine.failed else 0
        self.side.wake()

    def on_consumer_ready(self, consumer: Any) -> None:
        """Record and log that the consumer takes messages from now on."""
        super().on_consumer_ready(consumer)
        self.engine.consuming.set()
        gc_freeze.started()
        log.info("worker ready", name=self.hostname)

    def on_stopped(self) -> None:
        """Stop the probes, the metrics and the tracing, last of all."""
        super().on_stopped()
        self.probes.stop()
        self._unexpose()
        tracing.stop()

    def _revoke(self, ids: list[UUID]) -> None:
        self.engine.cancel_by_id(ids)


class Checks:
    """The checks of the probes. They ask neither Redis nor Postgres."""

    def __init__(self, engine: Engine, side: ConsumerSide) -> None:
        self._engine, self._side = engine, side

    def livez(self) -> str | None:
        """Returns a sentence that says which part of this worker has ended or is blocked; None while all is well."""
        now = time.monotonic()
        if self._engine.stopped.is_set():
            return "the engine has ended"
        if self._engine.entering is not None:
            return None  # that may take minutes: the startup probe decides how many
        if dead := self._engine.dead_slots(now):
            return f"{dead} of {self._engine.concurrency} slots are dead: their jobs' tasks or threads have ended"
        if self._engine.runner.overrun(now):
            return "every slot is held by a function that outlasts its timeout and cannot be stopped"
        # Before the loop itself, which then does not turn either: the reader wants to know whose fault it is.
        standing, whose = self._engine.blocked(now)
        if standing > STALE:
            return f"{whose} has blocked the event loop for {standing:.0f} s"
        for name, tick in (("engine", self._engine.loop_tick), ("consumer", self._engine.consumer_tick)):
            if now - tick > STALE:
                return f"the {name}'s loop has not turned for {now - tick:.0f} s"
        if (silent := now - self._engine.heartbeat.tried) > STALE:
            return f"the heartbeat has sent nothing for {silent:.0f} s"
        return None

    def readyz(self) -> str | None:
        """Returns why this worker takes no new jobs; None while it takes them. A busy worker is ready; one that cannot take
        jobs from Redis is not."""
        if (lifespan := self._engine.ended_lifespan) is not None:
            return f"the worker lifespan {lifespan} has ended: the worker drains and ends"
        if self._engine.draining:
            return "draining"
        if (starting := self._starting()) is not None:
            return starting
        if self._side.away is not None:
            return f"takes no jobs because Redis cannot be used: {self._side.away}"
        channel = self._side.channel
        if channel is not None and QUEUE not in channel.active_queues:
            return f"takes no jobs: Celery's consumer has left the queue {QUEUE!r}"
        return self.startupz() or self.livez()

    def startupz(self) -> str | None:
        """Returns a sentence that says why this worker does not count as started yet. Returns None if its consumer has
        connected to Redis and Postgres has recorded the worker."""
        if (starting := self._starting()) is not None:
            return starting
        if not self._engine.consuming.is_set():
            return "not consuming yet"
        if not self._engine.heartbeat.announced.is_set():
            return "not recorded in Postgres yet"
        return None

    def _starting(self) -> str | None:
        name = self._engine.entering
        return None if name is None else f"entering the worker lifespan {name}"


def run_worker(settings: "Settings", *, install_signals: bool = True) -> int:
    """Run a worker until it has drained. Blocks. Returns the exit code."""
    worker = _make(settings, install_signals)
    worker.start()
    return worker.exitcode or 0


def _make(settings: "Settings", install_signals: bool) -> Worker:
    from carafe.engine.application import application_of

    application = application_of(settings)
    worker: Worker = application.Worker(quiet=True, install_signals=install_signals, loglevel=settings.log_level)
    return worker


class WorkerThread:
    """A worker in a thread of another process (`carafe dev`). It handles no signals, so the other code of that process must
    drain it."""

    def __init__(self, settings: "Settings") -> None:
        self._worker = _make(settings, install_signals=False)
        self._thread = threading.Thread(target=self._run, name="carafe worker", daemon=True)
        self.exit_code: int | None = None

    def _run(self) -> None:
        try:
            self._worker.start()
            self.exit_code = self._worker.exitcode or 0
        except BaseException:
            self.exit_code = 1
            log.exception("the worker has failed")

    @property
    def probe_port(self) -> int:
        """The port of the worker's health server."""
        return self._worker.probes.port

    def start(self) -> None:
        """Start the worker. Returns at once."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:
        """Wait for at most `timeout` seconds until the worker's consumer has connected to Redis and Postgres has recorded
        the worker. Returns whether both have happened."""
        began = time.monotonic()
        engine = self._worker.engine
        if not engine.consuming.wait(timeout):
            return False
        return engine.heartbeat.announced.wait(max(0.0, timeout - (time.monotonic() - began)))

    def drain(self) -> None:
        """Begin to drain. A second call asks running jobs to stop now; see `Worker.begin_drain`. Returns at once."""
        self._worker.begin_drain()

    def join(self, timeout: float) -> bool:
        """Wait for the worker's end, for at most `timeout` seconds. Returns whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
