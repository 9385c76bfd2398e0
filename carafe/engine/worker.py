"""The worker process: Celery's worker with our engine, signals and probes.

1. started: imports the modules, refuses what it cannot honour, starts engine, consumer and probes
2. SIGTERM, SIGINT or SIGHUP, or an operator who asks for it: drains (stop taking, finish, hand back), then ends with code 0
3. a second signal hurries: what runs is asked to stop now
4. SIGUSR1: the stacks of all threads and tasks go to the log
Signals belong to the main thread; inside `carafe dev` the worker runs in a thread and is drained by its owner.
"""

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

import structlog
from celery import bootsteps
from celery.apps.worker import Worker as CeleryWorker
from celery.exceptions import CPendingDeprecationWarning, ImproperlyConfigured
from celery.platforms import SecurityWarning
from celery.worker import state as celery_state
from redis.exceptions import ResponseError

from carafe import collector, forks, signals, stacks, tracing
from carafe.engine import control
from carafe.engine.ahead import import_for_transactions
from carafe.engine.engine import Engine
from carafe.engine.exposed import expose_engine
from carafe.engine.pool import EnginePool
from carafe.engine.transport import BatchChannel, BatchTransport
from carafe.jobs import redis_away
from carafe.jobs.handlers import handlers
from carafe.jobs.hints import QUEUE
from carafe.jobs.modules import load_handlers, load_jobs
from carafe.probes import ProbeServer

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.worker")

STALE = 30.0
"""Seconds without a turn of the consumer's or the engine's loop, or without a try of a beat, after which `/livez` fails."""


class ConsumerSide:
    """What the engine asks of Celery's side; see `carafe.engine.engine.Consumer`."""

    def __init__(self, redis_url: str) -> None:
        self._redis = redis_away.connect(redis_url, timeout=2, name="carafe-worker")
        self.away: str | None = "not connected yet"
        """Why nothing is taken from Redis, in words; None while the consumer takes."""
        self.hub: Any = None
        self.channel: BatchChannel | None = None

    def wake(self) -> None:
        """Let Celery's hub look again whether there is room."""
        if self.hub is not None:
            self.hub.call_soon(_nothing)

    def require(self) -> None:
        """Raises what Redis, or the client, says when hints cannot be popped now. Takes none.

        The pop asks for no message. Redis looks at that last: at the user's rights, its own role and its state before.
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
        """Return hints to the end they were popped from. When Redis is away they are lost, and the steward repairs it."""
        try:
            self._redis.rpush(QUEUE, *reversed(messages))
        except redis_away.AWAY as error:
            reason = redis_away.details(error)
            log.warning("hints not pushed back; the steward will push them", count=len(messages), error=reason)

    def stop_taking(self) -> None:
        """End the outstanding pop at once."""
        channel = self.channel
        if channel is not None:
            try:
                channel.unblock()
            except Exception as error:
                log.info("could not end the outstanding pop, it ends by itself", error=type(error).__name__)
        self.wake()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(*redis_away.AWAY):
            self._redis.close()


def _nothing() -> None:
    pass


def _others() -> list[threading.Thread]:
    """Threads that Python would wait for at exit."""
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]


class EngineStep(bootsteps.StartStopStep):
    """Starts the engine before the consumer, and stops it after."""

    requires = ("celery.worker.components:Pool", "celery.worker.components:Hub")

    def start(self, worker: Any) -> None:
        """Start the engine; the consumer may hand over hints from now on."""
        worker.side.hub = worker.hub
        worker.hub.on_tick.add(worker.engine.tick_consumer)
        worker.engine.start()

    def stop(self, worker: Any) -> None:
        """Drain, unless that has been done, and end the engine."""
        engine = worker.engine
        if not (engine.draining or engine.stopped.is_set()):
            engine.drain(worker.app.carafe_settings.drain_timeout)
        engine.stop()
        worker.side.close()

    terminate = stop


class Worker(CeleryWorker):
    """Celery's worker program as Carafe runs it."""

    def __init__(self, app: Any = None, pool_cls: Any = None, **options: Any) -> None:
        # Celery's command line says `pool`, whoever calls its worker in code `pool_cls`; its default is already ours.
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
            raise ImproperlyConfigured(
                f"HANDLER_MODULES ({', '.join(settings.handler_modules)}) register no handler: nothing could ever run"
            )
        assert settings.redis_url is not None
        self.settings = settings
        tracing.start(settings, "carafe-worker")
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
        self.probes = ProbeServer(settings.probe_host, settings.probe_port, Checks(self.engine, self.side))
        # Here and not in on_start, where Celery would turn a port that is taken into a traceback.
        self.probes.start()

    def setup_defaults(self, concurrency: Any = None, **options: Any) -> None:
        """The concurrency is the settings', unless -c says otherwise."""
        super().setup_defaults(concurrency=concurrency or self.settings.worker_concurrency, **options)

    def on_start(self) -> None:
        """Celery's start."""
        super().on_start()
        # About a setting that is ours, at each lost connection. Here, since Celery shows such ones from its start on.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        log.info(
            "worker starting",
            name=self.hostname,
            slots=self.engine.concurrency,
            kinds=self.engine.kinds,
            probes=self.probes.port,
        )

    def start(self) -> None:
        """Run until it has drained. A process of its own ends here if handlers have left threads that would hold it up."""
        super().start()
        if self._owns_process and (self.engine.held_up or _others()):
            log.warning("ending under threads that handlers have left running")
            logging.shutdown()
            os._exit(self.exitcode or 0)

    @property
    def _owns_process(self) -> bool:
        return self.install_signals and threading.current_thread() is threading.main_thread()

    def install_platform_tweaks(self, worker: Any) -> None:
        """Our signals in place of Celery's."""
        if self._owns_process:
            for number in signals.ending():
                signal.signal(number, self._on_signal)
            forks.leave_signals_behind()
            stacks.show_on_signal(lambda: self.engine.loops)

    def _on_signal(self, number: int, frame: Any) -> None:
        # Little may be done inside a signal handler: a thread takes it from here.
        threading.Thread(target=self.begin_drain, name="carafe signal", daemon=True).start()

    def begin_drain(self) -> None:
        """Start to drain and end the worker afterwards; a second call hurries. Returns at once."""
        if self._drain is not None:
            log.info("asked again: stopping what runs")
            self.engine.hurry()
            return
        self._drain = threading.Thread(target=self._drain_and_end, name="carafe drain", daemon=True)
        self._drain.start()

    def _asked_to_drain(self) -> None:
        """An operator wants this worker to go (`Client.drain_worker`); each beat says so again."""
        if self._drain is None:
            log.info("an operator asks this worker to drain")
            self.begin_drain()

    def _engine_died(self) -> None:
        """Nothing would ever run here again: the process ends with code 1, and what starts workers starts another."""
        celery_state.should_stop = 1
        self.side.wake()

    def _drain_and_end(self) -> None:
        running = len(self.engine.running())
        log.info("draining", running=running, timeout=self.settings.drain_timeout)
        began = time.monotonic()
        clean = self.engine.drain(self.settings.drain_timeout)
        log.info("drained", clean=clean, seconds=round(time.monotonic() - began, 2))
        celery_state.should_stop = 0
        self.side.wake()

    def on_consumer_ready(self, consumer: Any) -> None:
        """The consumer takes messages from now on."""
        super().on_consumer_ready(consumer)
        self.engine.consuming.set()
        collector.started()
        log.info("worker ready", name=self.hostname)

    def on_stopped(self) -> None:
        """Last of all the probes."""
        super().on_stopped()
        self.probes.stop()
        self._unexpose()
        tracing.stop()

    def _revoke(self, ids: list[UUID]) -> None:
        self.engine.cancel_by_id(ids)


class Checks:
    """What the probes ask; no broker, no database."""

    def __init__(self, engine: Engine, side: ConsumerSide) -> None:
        self._engine, self._side = engine, side

    def livez(self) -> str | None:
        """None, or which loop stands still."""
        now = time.monotonic()
        if self._engine.stopped.is_set():
            return "the engine has ended"
        if dead := self._engine.dead_slots(now):
            return f"{dead} of {self._engine.concurrency} slots have ended under their jobs"
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
            return f"the heartbeat has tried no beat for {silent:.0f} s"
        return None

    def readyz(self) -> str | None:
        """None, or why no new work comes here. A busy worker is ready, one that cannot take jobs from Redis is not."""
        if self._engine.draining:
            return "draining"
        if self._side.away is not None:
            return f"takes no jobs, Redis cannot be used: {self._side.away}"
        channel = self._side.channel
        if channel is not None and QUEUE not in channel.active_queues:
            return f"takes no jobs: Celery's consumer has left the queue {QUEUE!r}"
        return self.startupz() or self.livez()

    def startupz(self) -> str | None:
        """None once the worker consumes and Postgres knows it."""
        if not self._engine.consuming.is_set():
            return "not consuming yet"
        if not self._engine.heartbeat.announced.is_set():
            return "not announced to Postgres yet"
        return None


def run_worker(settings: "Settings", *, install_signals: bool = True) -> int:
    """Run a worker until it has drained; returns its exit code. Blocks."""
    worker = _make(settings, install_signals)
    worker.start()
    return worker.exitcode or 0


def _make(settings: "Settings", install_signals: bool) -> Worker:
    from carafe.engine.application import application_of

    application = application_of(settings)
    worker: Worker = application.Worker(quiet=True, install_signals=install_signals, loglevel=settings.log_level)
    return worker


class WorkerThread:
    """A worker inside another process (`carafe dev`): no signals of its own, drained by its owner."""

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
        """Start it; returns at once."""
        self._thread.start()

    def ready(self, timeout: float) -> bool:
        """Wait until it consumes and Postgres knows it, as `/readyz` says, for at most `timeout` seconds."""
        began = time.monotonic()
        engine = self._worker.engine
        if not engine.consuming.wait(timeout):
            return False
        return engine.heartbeat.announced.wait(max(0.0, timeout - (time.monotonic() - began)))

    def drain(self) -> None:
        """Begin to drain; a second call hurries. Returns at once."""
        self._worker.begin_drain()

    def join(self, timeout: float) -> bool:
        """Wait for its end, for at most `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
