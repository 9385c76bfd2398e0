"""The engine: what turns hints into ended jobs inside one worker process. Ledger, runner and handlers live on one event loop
in a thread of their own (`carafe.engine.worker_loop`, which keeps handlers from the rest); Celery's consumer, in another
thread, only hands over batches of hints and asks for room.

1. `take` accepts what the slots can start now, plus about 100 ms of work, and pushes the rest back (DESIGN.md rule 5)
2. batches are claimed, claims are offered to the slots, ends are written in groups
3. what was taken by a wrong guess is given back: a slot that is stuck hides no backlog
4. `drain` stops taking at once, lets running jobs finish, and hands back the rest
5. what has ended that should not have (a service, a slot) is seen, logged and started again
"""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog

from carafe import tracing
from carafe.database import Database
from carafe.engine import captured_logs
from carafe.engine.captured_logs import Capture
from carafe.engine.children import Children
from carafe.engine.ends import End, Failed, Released
from carafe.engine.handler_connections import HandlerDatabase, pool_size
from carafe.engine.heartbeat import Findings, Heartbeat
from carafe.engine.holdings import Holdings, InHand
from carafe.engine.intake import Intake
from carafe.engine.ledger import Hinted, Ledger, Left
from carafe.engine.log_writer import LogWriter
from carafe.engine.loop_watch import BLOCKED, NOBODY, LoopWatch
from carafe.engine.pace import Pace
from carafe.engine.requests import CancelRequests
from carafe.engine.runner import Completed, Runner
from carafe.engine.scaling import Scaling
from carafe.engine.slot import Claim, Slot
from carafe.engine.surroundings import Surroundings
from carafe.engine.worker_loop import WorkerLoop
from carafe.errors import CarafeError
from carafe.jobs.actions import Deed, act
from carafe.jobs.audit import Actor
from carafe.jobs.handlers import handlers
from carafe.jobs.hints import Hint, encode, stamp_of
from carafe.jobs.identifiers import uuid7
from carafe.jobs.moves import HookFailed
from carafe.jobs.statements import CANCEL
from carafe.jobs.states import State
from carafe.logging import annotate, hide, open_job_log

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.engine")

TICK = 0.05
"""Seconds between two looks at deadlines, stuck slots and log lines."""

STUCK = 0.15
"""Seconds that a claimed job may wait for a slot before it is given back..."""

STUCK_FOR = 1.0
"""...and all jobs that wait would need more than this many seconds, at the rate at which jobs began in the last `STUCK`."""

STUCK_TICKS = 1 + round(STUCK / TICK)

GATHER = 0.02
"""Seconds that an end may wait for others, while more jobs are at hand, before they go to the ledger together."""

AGAIN = 0.1
"""Seconds after which a service that has ended is started again."""

SUSPECT_WAITS = 1.0
"""Seconds that a suspect may wait for another to end; then it is left to other workers."""

SUSPECT_PAUSE = 2.0
"""Seconds until such a suspect is offered again, at most."""

TRUST = 10.0
"""Seconds after a beat in which a worker may start jobs; later it must first learn what is still its own."""

CLAIM_AT_ONCE = 500
CLAIMS = 3
"""Jobs in one claim, and claims under way at once."""

COMMAND_TIMEOUT = 10.0
"""Seconds that a statement of the worker may take; it is tried again, since writing an end twice is harmless."""

LATE_PAUSES = (1.0, 30.0)
"""Seconds, the first and the longest, between two tries of ends that an unforeseen error keeps from being written."""

WRITE_AT_ONCE = 1000
WRITES = 2
"""Ends in one group, and groups under way at once."""

HELPERS = 4
"""Threads for what blocks: handing hints back, ending the services that have threads of their own."""

HINTS_WAIT = 5.0
"""Seconds that the end waits at most for hints on their way back; what is lost then the steward pushes."""

END = 15.0
"""Seconds that the end of the engine may take, unless its loop stands still."""


class Consumer(Protocol):
    """What the engine needs of Celery's side. Called from any thread."""

    channel: Any
    """The channel that pops; it sets itself here."""

    def wake(self) -> None:
        """There is room again: look at the queue."""
        ...

    def push_back(self, messages: Sequence[bytes]) -> None:
        """Put hints back at the end they were popped from, the first to be popped first."""
        ...

    def stop_taking(self) -> None:
        """End the outstanding pop; whatever it has popped comes through `Engine.take` and is pushed back."""
        ...


class Engine:
    """One worker's engine. `start` from any thread; `take` and `room` from the consumer's."""

    def __init__(self, settings: "Settings", *, name: str) -> None:
        assert settings.database_url is not None
        self.id: UUID = uuid7()
        self.name = name
        self.concurrency = settings.worker_concurrency
        self.kinds = sorted(handlers())
        self.consumer: Consumer | None = None
        self.drain_asked: Callable[[], None] | None = None
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
        self._ends: list[End] = []
        self._late: list[End] = []
        self._writing = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turning = WorkerLoop()
        self._watch = LoopWatch(self._turning, self._stalled)
        self._begun: deque[int] = deque()
        self._dead_since: float | None = None
        self._surroundings = Surroundings()
        self._stopping = False
        self.died: Callable[[], None] | None = None
        self._started = threading.Event()
        self._children = Children(
            settings.job_modules,
            settings.handler_modules,
            (settings.log_level, settings.log_format),
            ahead=() if tracing.active is None else ("carafe.tracing.tracer",),
        )
        self._helpers = ThreadPoolExecutor(HELPERS, thread_name_prefix="carafe helper")
        self._handing_back: set[asyncio.Task[Any]] = set()
        self._job_log = open_job_log(settings)
        self._holdings = Holdings()
        self._times_lost = 0
        self._doubts = 0
        self._pace = Pace(self.concurrency)
        self.ledger = Ledger(self._database, self.id, name, self.kinds, leaves=self._leaves)
        self.runner = Runner(
            concurrency=self.concurrency,
            handlers=handlers(),
            database=self._handlers_database,
            children=self._children,
            pace=self._pace,
            job_log=self._job_log,
            result_limit=settings.job_result_limit,
            retry_base=settings.job_retry_base,
            retry_cap=settings.job_retry_cap,
            ended=self._ended,
            idle=self._slot_idle,
            tracing=None if tracing.active is None else tracing.active.attempts(name),
        )
        self._capture = Capture()
        self._logs = LogWriter(self._database, self.runner.running, self.counts)
        self.slots = self.runner.slots
        self.intake = Intake(self, self._pace, self.kinds, self.counts, self._wake_consumer)
        self.room = self.intake.room
        self.heartbeat = Heartbeat(self, settings)
        self.scaling = Scaling(self, settings)
        self._requests = CancelRequests(settings, self.heartbeat.beat_now)

    @property
    def unwritten(self) -> int:
        """Ends that wait to be written."""
        return len(self._ends) + self._writing + len(self._late)

    @property
    def in_hand(self) -> int:
        """Hints taken and not yet done with, running jobs included."""
        return self.intake.in_hand

    @property
    def without_postgres(self) -> bool:
        """Whether what was taken now could not be claimed or begun: Postgres is away, does not know this worker yet, or has
        not been heard for too long."""
        return self._database.away or not self.heartbeat.announced.is_set() or not self.runner.trusted

    def _leaves(self) -> bool:
        return self.draining or self._database.away

    # -- the consumer's thread

    def take(self, batch: Sequence[Hinted]) -> None:
        """Accept hints in the order popped; what is too much goes back."""
        rest = self.intake.take(batch)
        if rest:
            assert self.consumer is not None
            self.consumer.push_back([hint.raw for hint in rest])
        if len(rest) < len(batch):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._arrived.set)

    def _wake_consumer(self) -> None:
        if self.consumer is not None:
            self.consumer.wake()

    # -- the engine's own thread

    def start(self) -> None:
        """Start the loop's thread and the heartbeat. Returns at once; Postgres may be away."""
        self._turning.start()
        self._turning.call(self._come_alive)
        self._watch.start()
        self._started.wait()

    def _come_alive(self) -> None:
        # Held on to: the loop itself knows its tasks weakly.
        self._life = asyncio.create_task(self._live(), name="engine")

    async def _live(self) -> None:
        try:
            await self._run()
        except BaseException:
            # Without it nothing runs and nothing ends here: others must get its jobs, and the process must go.
            log.critical("the engine has failed, the worker ends", exc_info=True)
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
        self._arrived, self._written_event, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._late_event = asyncio.Event()
        self._claims = asyncio.Semaphore(CLAIMS)
        self._writes = asyncio.Semaphore(WRITES)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.runner.trust_until(time.monotonic() + TRUST)
        self._capture.install()
        annotate("job", captured_logs.log_context)
        hide(captured_logs.log_hides)
        self._surroundings.remember()
        self.runner.start()
        self.heartbeat.start()
        self.scaling.start()
        services = [
            self._spawn(self._kept(name, service))
            for name, service in (
                ("claims", self._claim_arrivals),
                ("writes", self._write_ends),
                ("late writes", self._write_late),
                ("tick", self._tick),
                ("cancel requests", self._requests.listen),
                ("job logs", self._logs.run),
            )
        ]
        self.intake.closed = False
        self._started.set()
        try:
            await self._keep_up_until_stopped()
        finally:
            self._stopping = True
        for service in services:
            service.cancel()
        await self.runner.stop()
        await self._write_rest()
        self._surroundings.forget()
        self._capture.remove()
        await self._logs.finish()
        await self._aside(self.scaling.stop)
        await self._aside(self._children.close)
        await self._aside(self.heartbeat.stop)
        self._job_log.flush()
        await self._handlers_database.close()
        await self._database.close()
        self._helpers.shutdown()

    async def _aside(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call what blocks, in a thread of the engine's own: handlers fill those of ``asyncio.to_thread``."""
        assert self._loop is not None
        try:
            waiting = self._loop.run_in_executor(self._helpers, function, *arguments)
        except RuntimeError:  # the system gives no more threads: better here than not at all
            function(*arguments)
        else:
            await waiting

    async def _kept(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service for as long as the engine does, whatever ends it."""
        while True:
            try:
                await service()
                log.error("a service of the engine has ended, it is started again", service=name)
            except asyncio.CancelledError:
                if self._stopping:
                    raise
                log.error("a service of the engine was cancelled, it is started again", service=name)
            except Exception:
                log.exception("a service of the engine has failed, it is started again", service=name)
            await asyncio.sleep(AGAIN)

    async def _keep_up_until_stopped(self) -> None:
        """Carry a steward, on connections of its own, until the engine is stopped: with no web process one of us leads."""
        from carafe.jobs.queue import Queue
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

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _claim_arrivals(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            intake = self.intake
            if intake.foreign:
                foreign, intake.foreign = intake.foreign, []
                self.counts["hints of foreign kinds"] += len(foreign)
                intake.settle(len(foreign))
                self._spawn(self.ledger.defer(foreign))
            while intake.inbox:
                await self._claims.acquire()
                if not intake.inbox:  # withdrawn meanwhile
                    self._claims.release()
                    break
                batch = [intake.inbox.popleft() for _ in range(min(CLAIM_AT_ONCE, len(intake.inbox)))]
                self._spawn(self._claim(batch))

    async def _claim(self, batch: Sequence[Hinted]) -> None:
        self._holdings.claiming(batch)
        times_lost = self._times_lost
        claims: list[Claim] = []
        bad: list[tuple[Claim, HookFailed]] = []
        fate = "hints dropped"
        try:
            rows, failed = await self.ledger.claim(batch)
            now = time.monotonic()
            raws = {hint.id: hint.raw for hint in batch}
            claims = [Claim(row, raws[row["id"]], now) for row in rows]
            # In the order of their ids, which is that of their creation: rescue.sql judges by it what has been begun.
            claims.sort(key=_by_id)
            bad = [(Claim(row, raws[row["id"]], now), error) for row, error in failed]
        except Left:
            # Postgres may have made the claim all the same: the heartbeat hands it back, and no other worker gets the job
            # before that.
            fate = "hints pushed back"
            self._handing(self._push_back([hint.raw for hint in batch]))
        except Exception:
            # Nobody foresaw it. What the claim may have taken is unheld, and the heartbeat hands it back; the jobs are
            # queued, and the steward pushes their hints again.
            log.exception("claim failed", hints=len(batch))
            self._doubts += 1
        finally:
            self._claims.release()
            self._holdings.claimed(batch, [*claims, *(claim for claim, _ in bad)])
        dropped = len(batch) - len(claims) - len(bad)
        if dropped:
            self.counts[fate] += dropped
            self.intake.settle(dropped)
        for claim, error in bad:
            self._ended(Failed(claim, 0.0, "hook", "HookFailed", str(error), None, delay=5.0))
        versions = {kind: handler.job.job_options.version for kind, handler in handlers().items()}
        newer = [claim for claim in claims if claim.row["version"] > versions[claim.kind]]
        if newer:
            # Enqueued by a newer release: left to workers that know it, like a kind that we do not have.
            claims = [claim for claim in claims if claim.row["version"] <= versions[claim.kind]]
            self._leave_to_others(newer)
        if self.draining or times_lost != self._times_lost:
            # Declared lost while this claim was under way, it may have been taken from us before it reached us.
            self._give_back(claims)
        else:
            self._leave_to_others(self.runner.offer(claims), longest=SUSPECT_PAUSE)

    def _ended(self, end: End) -> None:
        """An attempt is over. `Completed` has nothing left to write."""
        if end.claim.tail is not None:
            self._logs.ended(end.claim, end.claim.tail, failed=type(end) is Failed)
        if type(end) is Completed:
            self.ledger.completed(end)
            self._holdings.drop([end.claim])
            self.intake.settle(1)
            return
        ends = self._ends
        ends.append(end)
        if len(ends) == 1 and self.runner.ready and self._loop is not None:
            self._loop.call_later(GATHER, self._written_event.set)
        elif not self.runner.ready or len(ends) >= WRITE_AT_ONCE:
            self._written_event.set()

    async def _write_ends(self) -> None:
        while True:
            await self._written_event.wait()
            self._written_event.clear()
            while self._ends:
                await self._writes.acquire()
                batch, self._ends = self._ends[:WRITE_AT_ONCE], self._ends[WRITE_AT_ONCE:]
                self._writing += len(batch)
                self._spawn(self._write(batch))

    async def _write(self, batch: Sequence[End]) -> None:
        try:
            released = await self._write_now(batch)
        finally:
            self._writes.release()
        self._job_log.flush()
        self._hand_hints_back(released)

    async def _write_now(self, batch: Sequence[End]) -> Sequence[Released]:
        """Write these ends, counted by `_writing` so far; returns those whose hints are to go back. An end that an
        unforeseen error keeps from being written stays in hand and is tried again; so do all when this is cancelled, since
        writing one twice is harmless."""
        try:
            left = await self.ledger.write(batch)
        except Exception as error:
            left = [(end, error) for end in batch]
        except BaseException:
            self._late += batch
            self._late_event.set()
            raise
        finally:
            # Before they are settled: counted twice at that moment, they would make the consumer take too much.
            self._writing -= len(batch)
        if left:
            self._keep(left)
            kept = {id(end) for end, _ in left}
            batch = [end for end in batch if id(end) not in kept]
        self._holdings.drop([end.claim for end in batch])
        self.intake.settle(len(batch))
        return [end for end in batch if type(end) is Released]

    def _hand_hints_back(self, released: Sequence[Released]) -> None:
        """Soon, and in nobody's turn: Redis may take its time."""
        if released:
            self._handing(self._hints_of(released))

    def _handing(self, coroutine: Any) -> None:
        task = self._spawn(coroutine)
        self._handing_back.add(task)
        task.add_done_callback(self._handing_back.discard)

    async def _hints_of(self, released: Sequence[Released]) -> None:
        try:
            for longest in {end.defer for end in released}:
                claims = [end.claim for end in released if end.defer == longest]
                if longest is None:
                    await self._push_back([claim.raw for claim in claims])
                else:
                    await self.ledger.defer([_hinted(claim) for claim in claims], longest=longest)
        except Exception:
            log.exception("hints not given back, the steward pushes them", jobs=len(released))

    def _keep(self, left: Sequence[tuple[End, Exception]]) -> None:
        """These jobs have ended and it cannot be said: they stay ours, and neither run again nor hold up others."""
        self._late += [end for end, _ in left]
        _, error = left[0]
        log.error(
            "ends not written, keeping them", jobs=[str(end.id) for end, _ in left[:10]], ends=len(left), exc_info=error
        )
        self._late_event.set()

    async def _write_late(self) -> None:
        """Try again, for ever, after growing pauses, what could not be written for no foreseen reason."""
        pause = LATE_PAUSES[0]
        while True:
            await self._late_event.wait()
            await asyncio.sleep(pause)
            self._late_event.clear()
            async with self._writes:
                batch, self._late = self._late, []
                self._writing += len(batch)
                released = await self._write_now(batch)
            self._hand_hints_back(released)
            pause = min(LATE_PAUSES[1], pause * 2) if self._late else LATE_PAUSES[0]

    async def _write_rest(self) -> None:
        """Write what is left, at the end. What cannot be written even now stays running, and is found by the rescuer."""
        while self._ends or self._writing:
            batch, self._ends = self._ends, []
            if batch:
                self._writing += len(batch)
                self._hand_hints_back(await self._write_now(batch))
            else:
                await asyncio.sleep(0.01)
        batch, self._late = self._late, []
        if batch:
            self._writing += len(batch)
            self._hand_hints_back(await self._write_now(batch))
        if self._handing_back:
            await asyncio.wait(self._handing_back, timeout=HINTS_WAIT)
        if self._late:
            jobs = [str(end.id) for end in self._late]
            log.error("stopping with ends that could not be written: these jobs will run again", jobs=jobs)

    def _slot_idle(self) -> None:
        self.intake.maybe_wake()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self.loop_tick = time.monotonic()
            self._look_after_slots(now)
            self._surroundings.restore()
            self.runner.check_deadlines(now)
            self._give_back_stuck(now)
            self._job_log.flush()
            self.intake.maybe_wake()
            if self.intake.in_hand > 0 or self.unwritten or self.runner.free < self.concurrency:
                self.idle.clear()
            else:
                self.idle.set()

    def _look_after_slots(self, now: float) -> None:
        """See that no slot is dead: one whose job's task or thread has ended without an end."""
        if self.runner.dead:
            self._dead_since = self._dead_since or now
            self.runner.revive()
        else:
            self._dead_since = None

    def _stalled(self, seconds: float) -> None:
        """From the watching thread: for how long the loop has not turned."""
        self.intake.held_up = seconds > STUCK

    def blocked(self, now: float) -> tuple[float, str]:
        """Seconds for which a handler has blocked the event loop, as far as they are worth a word, and whose; from any
        thread."""
        return self._watch.standing(now)

    def dead_slots(self, now: float) -> int:
        """Slots that have been dead for longer than it takes to give their jobs an end; from any thread."""
        since = self._dead_since
        return self.runner.dead if since is not None and now - since > 10 * BLOCKED else 0

    def _give_back_stuck(self, now: float) -> None:
        """Claims that no slot has begun for a while were taken by a wrong guess: they go back, where they can be seen."""
        self._leave_to_others(self.runner.withdraw_suspects(now - SUSPECT_WAITS), longest=SUSPECT_PAUSE)
        ready = self.runner.ready
        self._begun.append(self.runner.begun)
        if len(self._begun) > STUCK_TICKS:
            self._begun.popleft()
        if not ready or now - ready[0].claimed < STUCK:
            return
        # The rate of begun jobs decides, not the wait alone: a process that gets no CPU is not stuck.
        begun = self._begun[-1] - self._begun[0]
        if len(ready) * STUCK <= begun * STUCK_FOR and not self.intake.held_up:
            return
        for _, claim, seconds in self.running():
            self._pace.observe(claim.kind, seconds)
        self.counts["claims given back"] += len(ready)
        self._withdraw()

    def _withdraw(self) -> None:
        """Hand back all that no slot has begun: claims as queued, hints to the list."""
        self._give_back(self.runner.withdraw())
        hints = self.intake.withdraw()
        if hints:
            self._handing(self._push_back([hint.raw for hint in hints]))

    async def _push_back(self, messages: Sequence[bytes]) -> None:
        hints = [message for message in messages if message]
        if hints and self.consumer is not None:
            await self._aside(self.consumer.push_back, hints)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """Claimed and never begun: back to the queue, at no cost, with the hint."""
        for claim in claims:
            self._ended(Released(claim, 0.0, started=False))

    def _leave_to_others(self, claims: Sequence[Claim], *, longest: float = 60.0) -> None:
        """Not for this worker, now: back to the queue, at no cost, the hint after a growing pause."""
        for claim in claims:
            self._ended(Released(claim, 0.0, started=False, defer=longest))

    # -- from any thread

    def tick_consumer(self) -> None:
        """Celery's loop lives; called by each of its turns."""
        self.consumer_tick = time.monotonic()

    @property
    def loops(self) -> "dict[str, asyncio.AbstractEventLoop]":
        """The event loops, by what they are for: to look at their tasks."""
        return {"worker": self._turning.loop}

    def call(self, function: Callable[[], None]) -> None:
        """Call a function on the engine's loop, soon."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def running(self) -> list[tuple[Slot, Claim, float]]:
        """What runs now, with the seconds it has run."""
        now = time.monotonic()
        return [(slot, claim, now - claim.started) for slot in self.runner.slots if (claim := slot.claim) is not None]

    @property
    def doubts(self) -> int:
        """See `heartbeat.Beating`."""
        return self.ledger.doubts + self._doubts

    def held(self, since: datetime) -> InHand:
        """See `heartbeat.Beating`."""
        return self._holdings.in_hand(since)

    def found(self, findings: Findings) -> None:
        """See `heartbeat.Beating`: stop what must stop, and only then go on starting jobs."""

        def apply() -> None:
            for job_id, fence in findings.lost:
                self._lose(job_id, fence)
            for _, claim, _ in self.running():
                if claim.stop is None and (claim.id, claim.fence) in findings.cancel:
                    claim.ask_to_stop("cancelled")
            self.runner.trust_until(findings.sent + TRUST)
            self.intake.maybe_wake()
            if findings.drain and not self.draining and self.drain_asked is not None:
                self.drain_asked()

        self.call(apply)

    def unheld(self, ids: Sequence[UUID]) -> None:
        """See `heartbeat.Beating`: these go back."""

        def apply() -> None:
            self._handing(self._hand_back(ids))

        self.call(apply)

    def missed(self, error: BaseException) -> None:
        """See `heartbeat.Beating`: statements that wait for an answer are not left to wait for ever."""
        self.call(lambda: self._database.doubt(error))

    def declared_lost(self) -> None:
        """See `heartbeat.Beating`."""

        def apply() -> None:
            self._times_lost += 1

        self.call(apply)

    def _lose(self, job_id: UUID, fence: int) -> None:
        """A claim is no longer ours (rescued, cancelled, ended by another): stop it, start it never."""
        claim = self._holdings.find(job_id, fence)
        if claim is None or claim.completes:
            return
        claim.raw = b""
        if self.runner.forget(claim):
            self._give_back([claim])
        elif any(slot.claim is claim for slot in self.runner.slots):
            log.warning("a running job is no longer ours, stopping it", job_id=str(job_id))
            claim.ask_to_stop("lost")

    async def _hand_back(self, ids: Sequence[UUID]) -> None:
        """Rows run under us that we do not hold: a claim whose reply was lost."""
        rows = await self.ledger.hand_back(ids)
        if not rows:
            return  # known meanwhile, or Postgres is away: the next beat says so again
        hints = [Hint(row["id"], row["kind"], stamp_of(row["hinted_at"])) for row in rows if row["hinted_at"]]
        await self._push_back([encode(hint) for hint in hints])
        self.counts["claims handed back"] += len(rows)
        log.warning("handed back claims whose replies were lost", jobs=len(rows))

    def cancel_by_id(self, ids: Sequence[UUID]) -> None:
        """Cancel jobs by id, wherever they are (Celery's `revoke`)."""

        async def cancel() -> None:
            try:
                deed = Deed(Actor("celery", "cli"), "cancel", "revoked by Celery's remote control")
                await act(self._database, CANCEL, ids, (State.CANCELLED,), deed=deed, reason="cancelled by celery")
            except CarafeError as error:
                log.warning("revoke failed", error=str(error))

        def begin() -> None:
            self._spawn(cancel())

        self.call(begin)

    def drain(self, timeout: float) -> bool:
        """Stop taking at once, finish what runs within `timeout` seconds, hand back the rest. Blocks; True when clean.

        Call it from a thread of its own: the consumer must go on meanwhile to read the outstanding pop.
        """
        self.draining = self.intake.closed = True
        if self.consumer is not None:
            self.consumer.stop_taking()
        self.scaling.tell_now()
        self.call(self._withdraw)
        if self._wait_until_idle(timeout):
            return True
        self.hurry()
        clean = self._wait_until_idle(2.0)
        if not clean:
            # Threads that do not return: their jobs go back with the last statement, and the process exits under them.
            self.call(self._release_running)
            if not self.blocked(time.monotonic())[0]:
                self._wait_until_idle(2.0)
        return clean

    def hurry(self) -> None:
        """Ask everything that runs to stop now (a second signal during a drain)."""
        self.call(self.runner.ask_all_to_stop)

    def _release_running(self) -> None:
        for slot, claim, seconds in self.running():
            claim.over = True
            slot.claim = None
            self._job_log.released(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
            self._ended(Released(claim, seconds))

    def _wait_until_idle(self, timeout: float) -> bool:
        self.idle.clear()
        return self.idle.wait(timeout)

    def stop(self) -> None:
        """End the engine; drain it before. Blocks until it has ended, though not for a handler that holds the loop: what
        waits for a turn of it would come after the pod's grace period."""
        if self._loop is None:
            return
        self.call(self._stop.set)
        until = time.monotonic() + END
        while not self.stopped.wait(0.1) and (now := time.monotonic()) < until:
            standing, whose = self.blocked(now)
            if standing:
                who = "something" if whose == NOBODY else "a handler"
                said = f"ending while {who} holds the event loop: the worker's jobs are left to the rescue"
                log.error(said, seconds=round(standing, 1))
                self.heartbeat.stop()
                break
        self._turning.end(1)

    @property
    def held_up(self) -> bool:
        """Whether the engine has ended and its loop cannot be closed: a handler holds it, or left a thread of it running."""
        return self._turning.held_up


def _by_id(claim: Claim) -> bytes:
    return claim.id.bytes


def _hinted(claim: Claim) -> Hinted:
    return Hinted(claim.id, claim.kind, claim.raw)
