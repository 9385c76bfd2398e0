"""The engine turns hints into ended jobs inside one worker process. This module puts its parts together, and starts,
watches, drains and stops them. The parts run on one event loop in a thread of its own (`carafe.engine.worker_loop`, which
protects it from handlers). Celery's consumer, in another thread, only hands over batches of hints and asks how many more the
engine takes.

1. `arrivals` takes hints, claims their jobs and gives the claimed jobs to the slots
2. `runner` runs the jobs, `writer` writes how their attempts ended
3. `heartbeat` and `reconciliation` compare the claims that the worker holds with Postgres; `scaling` publishes for the
   autoscaler which jobs run
4. `drain` stops taking hints at once, lets running jobs finish, and queues all other claimed jobs again
5. if a service or a slot ends unexpectedly, the engine logs that and restarts it
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from carafe import tracing
from carafe.engine import captured_logs
from carafe.engine.ahead import ahead_in_children
from carafe.engine.arrivals import CLAIMS, STUCK, TICK, Arrivals
from carafe.engine.aside import Aside
from carafe.engine.cancel_requests import CancelRequests
from carafe.engine.captured_logs import Capture
from carafe.engine.children import Children
from carafe.engine.claim import Claim
from carafe.engine.handler_connections import HandlerDatabase, pool_size
from carafe.engine.heartbeat import Heartbeat, Identity
from carafe.engine.held_claims import Holdings
from carafe.engine.hint_returns import Consumer, HintReturns
from carafe.engine.intake import Intake
from carafe.engine.ledger import Hinted, Ledger
from carafe.engine.lifespans import START, LifespanFailed, Lifespans
from carafe.engine.log_writer import LogWriter
from carafe.engine.loop_watch import BLOCKED, NOBODY, LoopWatch
from carafe.engine.reconciliation import TRUST, Reconciliation
from carafe.engine.runner import Runner
from carafe.engine.runtimes import Pace
from carafe.engine.scaling import Scaling
from carafe.engine.slot import Slot
from carafe.engine.surroundings import Surroundings
from carafe.engine.tasks import Tasks
from carafe.engine.worker_loop import WorkerLoop
from carafe.engine.writer import WRITES, Writer
from carafe.errors import CarafeError
from carafe.jobs.actions import ACTIONS
from carafe.jobs.handlers import handlers
from carafe.jobs.identifiers import uuid7
from carafe.jobs.worker_lifespan import worker_lifespans
from carafe.store.actions import act
from carafe.store.audit import Actor
from carafe.store.database import Database
from carafe.telemetry.loggers import get_logger
from carafe.telemetry.logging import annotate, hide, open_job_log

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

log = get_logger("carafe.engine")

AGAIN = 0.1
"""Seconds after which a service that has ended is started again."""

COMMAND_TIMEOUT = 10.0
"""Seconds that an SQL statement of the worker may take. A slower one is stopped and tried again; that is harmless even if it
writes the ends of jobs a second time."""

END = 15.0
"""The maximum number of seconds that `Engine.stop` waits until the engine has ended. It waits less if the event loop is
blocked."""


LEAVING = 2.0
"""The worker lifespans may take as many seconds to end as are left of the drain, and at least this many."""


STILL_ENTERING = 5.0
"""Seconds between two log lines that name the worker lifespan that is being entered."""


class Engine:
    """The engine of one worker. `start` may be called from any thread, `take` and `room` only from the consumer's."""

    def __init__(self, settings: "Settings", *, name: str) -> None:
        assert settings.database_url is not None
        self.id: UUID = uuid7()
        self.name = name
        self.concurrency = settings.worker_concurrency
        self.kinds = sorted(handlers())
        self.consumer: Consumer | None = None
        self.drain_asked: Callable[[str], None] | None = None
        """Starts the drain of the worker, and its end, for the reason that it is given."""
        self.counts: Counter[str] = Counter()
        self.draining = self.failed = False
        self.loop_tick = self.consumer_tick = time.monotonic()
        self.consuming = threading.Event()
        self.idle = threading.Event()
        self.stopped = threading.Event()
        self._database = Database(
            settings.database_url.get_secret_value(),
            pool_size=CLAIMS + WRITES + 2,
            name=f"carafe worker {name}",
            command_timeout=COMMAND_TIMEOUT,
            any_timestamp=False,
            by_index=True,
        )
        self._handlers_database = HandlerDatabase(
            settings.database_url.get_secret_value(),
            pool_size=pool_size(settings),
            name=f"carafe handlers {name}",
            command_timeout=COMMAND_TIMEOUT,
        )
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turning = WorkerLoop()
        self._watch = LoopWatch(self._turning, self._stalled)
        self._dead_since: float | None = None
        self._surroundings = Surroundings()
        self._stopping = False
        self._stop = asyncio.Event()
        self.died: Callable[[], None] | None = None
        self._started = threading.Event()
        self._children = Children(
            settings.job_modules,
            settings.handler_modules,
            (settings.log_level, settings.log_format),
            ahead=(*ahead_in_children(), *(() if tracing.active is None else ("carafe.tracing.tracer",))),
        )
        self._lifespans = Lifespans(worker_lifespans(), ended=self._lifespan_ended)
        self.ended_lifespan: str | None = None
        """The name of a worker lifespan that has ended before the worker, so that handlers would get a closed value."""
        self._aside = Aside()
        self._tasks = Tasks()
        self._job_log = open_job_log(settings)
        self._capture = Capture()
        self._assemble()

    def _assemble(self) -> None:
        """Create the parts of the engine that process hints and jobs, in such an order that each part can use the earlier
        ones."""
        settings, counts = self._settings, self.counts
        known = handlers()
        versions = {kind: known[kind].job.job_options.version for kind in self.kinds}
        slots = [Slot(index) for index in range(self.concurrency)]
        pace, holdings = Pace(self.concurrency), Holdings()
        self.ledger = Ledger(self._database, self.id, self.name, self.kinds, leaves=self._leaves, job_log=self._job_log)
        self._returns = HintReturns(self.ledger, self._aside, lambda: self.consumer, counts)
        self.intake = Intake(
            slots,
            pace,
            self.kinds,
            counts,
            unwritten=lambda: self.writer.unwritten,
            without_postgres=lambda: self.without_postgres,
            wake=self._wake_consumer,
        )
        self.room = self.intake.room
        self._logs = LogWriter(self._database, slots, counts)
        self.writer = Writer(self.ledger, holdings, self.intake, self._returns, self._logs, self._job_log)
        self.runner = Runner(
            slots=slots,
            handlers=known,
            database=self._handlers_database,
            children=self._children,
            pace=pace,
            job_log=self._job_log,
            result_limit=settings.job_result_limit,
            retry_base=settings.job_retry_base,
            retry_cap=settings.job_retry_cap,
            ended=self.writer.end,
            idle=self.intake.maybe_wake,
            shared=self._lifespans.values,
            tracing=None if tracing.active is None else tracing.active.attempts(self.name),
        )
        self.arrivals = Arrivals(
            self.intake,
            self.ledger,
            self.runner,
            self.writer,
            holdings,
            self._returns,
            pace,
            counts,
            versions,
            self._drains,
        )
        self.reconciliation = Reconciliation(
            self._database,
            holdings,
            self.runner,
            self.intake,
            self.arrivals,
            self._returns,
            self.call,
            self._drain_if_new,
            self._watch.blocker,
        )
        identity = Identity(self.id, self.name, self.kinds, list(versions.values()), self.concurrency)
        self.heartbeat = Heartbeat(settings, identity, self.reconciliation, self._drains)
        self.scaling = Scaling(settings, self.id, self.running, self._drains)
        self._requests = CancelRequests(settings, self.heartbeat.beat_now)

    @property
    def in_hand(self) -> int:
        """The number of hints that were taken and are not settled yet, including those of running jobs."""
        return self.intake.in_hand

    @property
    def entering(self) -> str | None:
        """The name of the worker lifespan that is being entered. The worker takes no jobs before all are. None when they
        are. Callable from any thread."""
        return None if self.stopped.is_set() else self._lifespans.entering

    @property
    def without_postgres(self) -> bool:
        """Whether jobs cannot be claimed or started now because Postgres is away, does not know this worker yet, or has been
        silent for too long."""
        return self._database.away or not self.heartbeat.announced.is_set() or not self.runner.trusted

    def _drains(self) -> bool:
        return self.draining

    def _leaves(self) -> bool:
        return self.draining or self._database.away

    # -- the consumer's thread

    def take(self, batch: Sequence[Hinted]) -> None:
        """Accept hints in the order in which they were popped, and push those back for which there is no room."""
        rest = self.arrivals.take(batch)
        if rest:
            assert self.consumer is not None
            self.consumer.push_back([hint.raw for hint in rest])

    def _wake_consumer(self) -> None:
        if self.consumer is not None:
            self.consumer.wake()

    # -- the engine's own thread

    def start(self) -> None:
        """Start the event loop's thread and the engine's services. Returns as soon as they run; Postgres may be away.
        Returns also when the worker lifespans cannot be entered, or when a drain has given them up: then `entering` still
        names one that blocks the event loop, or `stopped` is set."""
        self._turning.start()
        self._turning.call(self._come_alive)
        self._watch.start()
        began = time.monotonic()
        # In this thread, since a lifespan may block the loop.
        while not self._started.wait(STILL_ENTERING) and (name := self.entering) is not None:
            seconds = time.monotonic() - began
            log.warning("still entering a worker lifespan", lifespan=name, seconds=round(seconds))
            if seconds > START + END:
                log.critical("the worker cannot start", reason=f"the worker lifespan {name} blocks the event loop")
                self.failed = True
                return
        self._started.wait()

    def _come_alive(self) -> None:
        # Keep a reference: the loop itself holds its tasks only weakly.
        self._life = asyncio.create_task(self._live(), name="engine")

    async def _live(self) -> None:
        try:
            await self._run()
        except LifespanFailed as error:
            log.critical("the worker cannot start", reason=str(error), exc_info=error.__cause__)
            self.failed = True
        except BaseException:
            # Without it nothing runs and nothing ends here: others must get its jobs, and the process must go.
            log.critical("the engine has failed; the worker ends", exc_info=True)
            self.failed = True
            self.heartbeat.stop()
        finally:
            self._watch.stop()
            self._turning.end_soon()
            self.stopped.set()
            self._started.set()
            if self.failed and self.died is not None:
                self.died()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if not await self._lifespans.enter():
            return
        self.runner.trust_until(time.monotonic() + TRUST)
        self._capture.install()
        annotate("job", captured_logs.log_context)
        hide(partial(captured_logs.log_hides, self.runner.claims))
        self._surroundings.remember()
        self.writer.start(self.runner.ready)
        self.runner.start()
        self.heartbeat.start()
        self.scaling.start()
        services = [
            self._tasks.spawn(self._kept(name, service))
            for name, service in (
                ("claims", self.arrivals.run),
                ("writes", self.writer.run),
                ("late writes", self.writer.run_late),
                ("tick", self._tick),
                ("cancel requests", self._requests.listen),
                ("job logs", self._logs.run),
            )
        ]
        self.arrivals.start()
        self._started.set()
        try:
            await self._keep_up_until_stopped()
        finally:
            self._stopping = True
        for service in services:
            service.cancel()
        await self.runner.stop()
        await self.writer.finish()
        self._surroundings.forget()
        self._capture.remove()
        await self._logs.finish()
        await self._aside.call(self.scaling.stop)
        await self._aside.call(self._children.close)
        await self._aside.call(self.heartbeat.stop)
        self._job_log.flush()
        await self._handlers_database.close()
        await self._database.close()
        self._aside.close()

    def _lifespan_ended(self, name: str) -> None:
        """Drain, and end the worker with code 1: its handlers must not go on with a closed value."""
        self.ended_lifespan = name
        self.failed = True
        if self.drain_asked is not None:
            self.drain_asked(f"the worker lifespan {name} has ended: this worker drains and ends")

    async def _kept(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service until the engine stops. If the service ends earlier, for any reason, log that and start it again."""
        while True:
            try:
                await service()
                log.error("a service of the engine has ended; it is started again", service=name)
            except asyncio.CancelledError:
                if self._stopping:
                    raise
                log.error("a service of the engine was cancelled; it is started again", service=name)
            except Exception:
                log.exception("a service of the engine has failed; it is started again", service=name)
            await asyncio.sleep(AGAIN)

    async def _keep_up_until_stopped(self) -> None:
        """Host a steward, with its own connections, until the engine is stopped. So a worker can do the upkeep if no web
        process does."""
        from carafe.queue.queue import Queue
        from carafe.steward.hosted import hosted

        settings = self._settings
        assert settings.database_url is not None
        assert settings.redis_url is not None
        database = Database(
            settings.database_url.get_secret_value(), pool_size=2, name=f"carafe steward {self.name}", by_index=True
        )
        queue = Queue(settings.redis_url.get_secret_value(), timeout=settings.redis_timeout)
        try:
            async with hosted(settings, database, queue, "worker"):
                await self._stop.wait()
        finally:
            await queue.close()
            await database.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self.loop_tick = time.monotonic()
            self._look_after_slots(now)
            self._surroundings.restore()
            self.runner.check_deadlines(now)
            self.arrivals.give_back_stuck(now)
            self._job_log.flush()
            self.intake.maybe_wake()
            if self.intake.in_hand > 0 or self.writer.unwritten or self.runner.free < self.concurrency:
                self.idle.clear()
            else:
                self.idle.set()

    def _look_after_slots(self, now: float) -> None:
        """Free the slots whose job has ended without a recorded end (its task or thread died), so that they can run other
        jobs."""
        if self.runner.dead:
            self._dead_since = self._dead_since or now
            self.runner.revive()
        else:
            self._dead_since = None

    def _stalled(self, seconds: float) -> None:
        """Record the number of seconds since the event loop last turned. The thread that watches the loop calls this."""
        self.intake.held_up = seconds > STUCK

    def blocked(self, now: float) -> tuple[float, str]:
        """Returns two values: the seconds for which the event loop has been blocked (0 if it turns, or for a short stall),
        and words that say whose code blocks it. Callable from any thread."""
        return self._watch.standing(now)

    def dead_slots(self, now: float) -> int:
        """Returns how many slots are dead, because their job's task or thread ended without a recorded end. Returns 0 at
        first, since `runner.revive` may still free the slots. Callable from any thread."""
        since = self._dead_since
        return self.runner.dead if since is not None and now - since > 10 * BLOCKED else 0

    # -- from any thread

    def tick_consumer(self) -> None:
        """Record that the loop of Celery's consumer turns. Called at each of its turns."""
        self.consumer_tick = time.monotonic()

    @property
    def loops(self) -> "dict[str, asyncio.AbstractEventLoop]":
        """The worker's event loop under the name "worker", for showing the stacks of its tasks."""
        return {"worker": self._turning.loop}

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the engine's loop, soon. Callable from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def running(self) -> list[tuple[Slot, Claim, float]]:
        """Returns (slot, claim, seconds) for each slot that runs a job: `seconds` is how long the job has run."""
        now = time.monotonic()
        return [(slot, claim, now - claim.started) for slot in self.runner.slots if (claim := slot.claim) is not None]

    def _drain_if_new(self) -> None:
        """Start the drain that an operator requested. Does nothing if this worker drains already, since each heartbeat
        repeats the request."""
        if not self.draining and self.drain_asked is not None:
            self.drain_asked("an operator asks this worker to drain")

    def cancel_by_id(self, ids: Sequence[UUID]) -> None:
        """Cancel jobs by id, whether they wait or run, here or on another worker. Celery's `revoke` calls this."""

        async def cancel() -> None:
            try:
                by = Actor("celery", "cli")
                await act(self._database, ACTIONS["cancel"], ids, reason="revoked by Celery's remote control", by=by)
            except CarafeError as error:
                log.warning("revoke failed", error=str(error))

        self.call(lambda: self._tasks.spawn(cancel()))

    def drain(self, timeout: float) -> bool:
        """Stop taking hints at once, let running jobs finish within `timeout` seconds, and queue all other claimed jobs
        again; then leave the worker lifespans. Blocks until that is done. Returns False if a job still runs at the end
        although it was asked to stop.

        Call this from a separate thread: the consumer's thread must not be blocked, since the consumer still has to read the
        answer to its last pop.
        """
        until = time.monotonic() + timeout
        self.draining = self.intake.closed = True
        if self.entering is not None:
            self.call(self._lifespans.give_up)
            if self.stopped.wait(timeout):
                return True
            log.error("a worker lifespan blocks the event loop; the worker ends without it", lifespan=self.entering)
            self._started.set()
            return False
        clean = self._drain(timeout)
        self._leave_lifespans(max(LEAVING, until - time.monotonic()))
        return clean

    def _drain(self, timeout: float) -> bool:
        if self.consumer is not None:
            self.consumer.stop_taking()
        self.scaling.tell_now()
        self.call(self.arrivals.withdraw)
        if self._wait_until_idle(timeout):
            return True
        self.hurry()
        clean = self._wait_until_idle(2.0)
        if not clean:
            # Threads that do not return: their jobs go back with the last statement, and the process exits under them.
            self.call(self.runner.release_running)
            if not self.blocked(time.monotonic())[0]:
                self._wait_until_idle(2.0)
        return clean

    def _leave_lifespans(self, seconds: float) -> None:
        """Leave the worker lifespans. Blocks for `seconds` at most."""
        if not self._lifespans.values or not self._turning.alive:
            return
        leaving = asyncio.run_coroutine_threadsafe(self._lifespans.leave(seconds), self._turning.loop)
        try:
            leaving.result(seconds + 1)
        except TimeoutError:
            log.error("the worker lifespans are not left: something holds the event loop")

    def hurry(self) -> None:
        """Ask all running jobs to stop now, as a second signal during a drain does."""
        self.call(self.runner.ask_all_to_stop)

    def _wait_until_idle(self, timeout: float) -> bool:
        self.idle.clear()
        return self.idle.wait(timeout)

    def stop(self) -> None:
        """End the engine. Call `drain` before. Blocks until the engine has ended, but does not wait for a handler that
        blocks the event loop: that wait could outlast the pod's grace period."""
        if self._loop is None:
            return
        self.call(self._stop.set)
        until = time.monotonic() + END
        while not self.stopped.wait(0.1) and (now := time.monotonic()) < until:
            standing, whose = self.blocked(now)
            if standing:
                who = "something" if whose == NOBODY else "a handler"
                said = f"ending while {who} blocks the event loop: the steward will rescue the worker's jobs"
                log.error(said, seconds=round(standing, 1))
                self.heartbeat.stop()
                break
        self._turning.end(1)

    @property
    def held_up(self) -> bool:
        """Whether something keeps the process from exiting by itself: the event loop's thread, or a thread of
        ``asyncio.to_thread``, still runs."""
        return self._turning.held_up
