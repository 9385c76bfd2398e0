"""The engine: what turns hints into ended jobs inside one worker process. Ledger and runner live on one event loop in a
thread of their own; Celery's consumer, in another thread, only hands over batches of hints and asks for room.

1. `take` accepts what the slots can start now, plus about 100 ms of work, and pushes the rest back (DESIGN.md rule 5)
2. batches are claimed, claims are offered to the slots, ends are written in groups
3. what was taken by a wrong guess is given back: a slot that is stuck hides no backlog
4. `drain` stops taking at once, lets running jobs finish, and hands back the rest
"""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog

from carafe.database import Database
from carafe.engine.children import Children
from carafe.engine.ends import End, Failed, Released
from carafe.engine.heartbeat import Heartbeat
from carafe.engine.ledger import Hinted, Ledger, Row
from carafe.engine.pace import HORIZON, Pace
from carafe.engine.runner import Completed, Runner
from carafe.engine.slot import Claim, Slot
from carafe.errors import CarafeError
from carafe.jobs.actions import act
from carafe.jobs.handlers import handlers
from carafe.jobs.identifiers import uuid7
from carafe.jobs.moves import HookFailed
from carafe.jobs.statements import CANCEL
from carafe.jobs.states import State
from carafe.logging import open_job_log

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.engine")

TICK = 0.05
"""Seconds between two looks at deadlines, stuck slots and log lines."""

STUCK = 0.15
"""Seconds that a claimed job may wait for a slot before it is given back."""

CLAIM_AT_ONCE = 500
CLAIMS = 3
"""Jobs in one claim, and claims under way at once."""

WRITE_AT_ONCE = 1000
WRITES = 2
"""Ends in one group, and groups under way at once."""

UNWRITTEN = 5000
"""Ends that may wait to be written before the worker takes no more."""

MAX_POP = 1000
"""Hints in one pop at most."""


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
        self.counts: Counter[str] = Counter()
        self.draining = False
        self.loop_tick = self.consumer_tick = time.monotonic()
        self.consuming = threading.Event()
        self.idle = threading.Event()
        self.stopped = threading.Event()
        self._settings = settings
        self._database = Database(
            settings.database_url.get_secret_value(), pool_size=CLAIMS + WRITES + 2, name=f"carafe worker {name}"
        )
        self._pace = Pace(self.concurrency)
        self._known = frozenset(self.kinds)
        self._inbox: deque[Hinted] = deque()
        self._foreign: list[Hinted] = []
        self._ends: list[End] = []
        # Each of these is written by one thread only, so that no lock is needed.
        self._taken = 0
        self._settled = 0
        self._starved = False
        self._writing = 0
        self._stop_requested = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._children = Children(settings.job_modules, settings.handler_modules)
        self._job_log = open_job_log(settings)
        self.ledger = Ledger(self._database, self.id, name, self.kinds)
        self.runner = Runner(
            concurrency=self.concurrency,
            handlers=handlers(),
            database=self._database,
            children=self._children,
            pace=self._pace,
            job_log=self._job_log,
            result_limit=settings.job_result_limit,
            retry_base=settings.job_retry_base,
            retry_cap=settings.job_retry_cap,
            ended=self._ended,
            idle=self._slot_idle,
        )
        self.heartbeat = Heartbeat(self, settings)

    # -- the consumer's thread

    def room(self) -> int:
        """How many hints to take now at most. Called by the consumer's thread."""
        if self.draining or not self._started.is_set() or len(self._ends) > UNWRITTEN:
            return self._no_room()
        free, budget = self._prospect()
        count = max(free, self._pace.count(budget)) - self._waiting(free)
        return min(MAX_POP, count) if count > 0 else self._no_room()

    def _no_room(self) -> int:
        self._starved = True
        return 0

    def _prospect(self) -> tuple[int, float]:
        """Slots free now, and the seconds of slot time that come free within the horizon."""
        now = time.monotonic()
        running = [(claim.kind, slot.started) for slot in self.runner.slots if (claim := slot.claim) is not None]
        free = self.concurrency - len(running)
        return free, free * HORIZON + self._pace.budget(running, now)

    def _waiting(self, free: int) -> int:
        """Hints in hand that no slot has begun."""
        begun = self.concurrency - free + len(self._ends) + self._writing
        return max(0, self._taken - self._settled - begun)

    def take(self, batch: Sequence[Hinted]) -> None:
        """Accept hints in the order popped; what is too much goes back. Consumer's thread."""
        accepted = self._accepted(batch)
        if accepted < len(batch):
            self.counts["hints pushed back"] += len(batch) - accepted
            assert self.consumer is not None
            self.consumer.push_back([hint.raw for hint in batch[accepted:]])
            batch = batch[:accepted]
        if accepted:
            self._taken += accepted
            if self._known.issuperset([hint.kind for hint in batch]):
                self._inbox.extend(batch)
            else:
                self._inbox.extend([hint for hint in batch if hint.kind in self._known])
                self._foreign.extend([hint for hint in batch if hint.kind not in self._known])
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._arrived.set)

    def _accepted(self, batch: Sequence[Hinted]) -> int:
        """How many of a batch to keep: what free slots can start, then what fits into the horizon by each kind's pace."""
        if self.draining:
            return 0
        free, budget = self._prospect()
        waiting = self._waiting(free)
        budget -= self._pace.total(waiting)
        free = max(0, free - waiting)
        # Kinds that are not ours are left to others at no cost.
        costs = {kind: self._pace.cost(kind) if kind in self._known else 0.0 for kind in {hint.kind for hint in batch}}
        if len(batch) * max(costs.values()) <= budget:
            return len(batch)
        for index, hint in enumerate(batch):
            cost = costs[hint.kind]
            if index >= free and cost > budget:
                return index
            budget -= cost
        return len(batch)

    # -- the engine's own thread

    def start(self) -> None:
        """Start the loop's thread and the heartbeat. Returns at once; Postgres may be away."""
        self._thread = threading.Thread(target=self._main, name="carafe engine", daemon=True)
        self._thread.start()
        self._started.wait()

    def _main(self) -> None:
        import uvloop

        try:
            uvloop.run(self._run())
        except BaseException:
            log.exception("the engine has failed")
            raise
        finally:
            self.stopped.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived, self._written_event, self._stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._claims = asyncio.Semaphore(CLAIMS)
        self._writes = asyncio.Semaphore(WRITES)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.runner.start()
        self.heartbeat.start()
        services = [self._spawn(self._claim_arrivals()), self._spawn(self._write_ends()), self._spawn(self._tick())]
        self._started.set()
        await self._stop.wait()
        for service in services:
            service.cancel()
        await self.runner.stop()
        await self._write_rest()
        await asyncio.to_thread(self._children.close)
        await asyncio.to_thread(self.heartbeat.stop)
        self._job_log.flush()
        await self._database.close()
        # Before the loop is closed, which waits for threads of its own that handlers may have left running.
        self.stopped.set()

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _claim_arrivals(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._foreign:
                foreign, self._foreign = self._foreign, []
                self.counts["hints of foreign kinds"] += len(foreign)
                self._settle(len(foreign))
                self._spawn(self.ledger.defer(foreign))
            while self._inbox:
                await self._claims.acquire()
                batch = [self._inbox.popleft() for _ in range(min(CLAIM_AT_ONCE, len(self._inbox)))]
                self._spawn(self._claim(batch))

    async def _claim(self, batch: Sequence[Hinted]) -> None:
        try:
            rows, bad = await self.ledger.claim(batch)
        except Exception:
            # Nobody foresaw it; the rows are still queued (the claim was rolled back), and the steward hints at them.
            log.exception("claim failed", hints=len(batch))
            self._settle(len(batch))
            return
        finally:
            self._claims.release()
        now = time.monotonic()
        raws = {hint.id: hint.raw for hint in batch}
        versions = {kind: handler.job.job_options.version for kind, handler in handlers().items()}
        claims = [Claim(row, raws[row["id"]], now) for row in rows]
        dropped = len(batch) - len(claims) - len(bad)
        if dropped:
            self.counts["hints dropped"] += dropped
            self._settle(dropped)
        for row, error in bad:
            self._ended(_failed_by_hook(row, error))
        newer = [claim for claim in claims if claim.row["version"] > versions[claim.kind]]
        if newer:
            # Enqueued by a newer release: left to workers that know it, like a kind that we do not have.
            claims = [claim for claim in claims if claim.row["version"] <= versions[claim.kind]]
            self._settle(len(newer))
            await self.ledger.write([Released(claim, 0.0, started=False) for claim in newer])
            await self.ledger.defer([Hinted(claim.id, claim.kind, claim.raw) for claim in newer])
        if self.draining:
            self._give_back(claims)
        else:
            self.runner.offer(claims)

    def _ended(self, end: End) -> None:
        """An attempt is over. `Completed` has nothing left to write."""
        if type(end) is Completed:
            self.ledger.counts["succeeded"] += 1
            self._settle(1)
            return
        self._ends.append(end)
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
            await self.ledger.write(batch)
            await self._push_back([end.claim.raw for end in batch if type(end) is Released])
        except Exception:
            # Nobody foresaw it: these jobs stay running until they are rescued, and the others go on.
            log.exception("ends not written", jobs=[str(end.id) for end in batch])
        finally:
            self._writes.release()
            self._writing -= len(batch)
        self._settle(len(batch))
        self._job_log.flush()

    async def _write_rest(self) -> None:
        while self._ends or self._writing:
            batch, self._ends = self._ends, []
            if batch:
                await self.ledger.write(batch)
                await self._push_back([end.claim.raw for end in batch if type(end) is Released])
            else:
                await asyncio.sleep(0.01)

    def _settle(self, count: int) -> None:
        """So many hints are done with: there is room for others."""
        self._settled += count
        self._maybe_wake()

    def _slot_idle(self) -> None:
        self._maybe_wake()

    def _maybe_wake(self) -> None:
        if self._starved and self.consumer is not None and not self.draining:
            self._starved = False
            self.consumer.wake()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self.loop_tick = time.monotonic()
            self.runner.check_deadlines(now)
            self._give_back_stuck(now)
            self._job_log.flush()
            self._maybe_wake()
            if not self._held_or_running():
                self.idle.set()
            else:
                self.idle.clear()

    def _give_back_stuck(self, now: float) -> None:
        """Claims that no slot has begun for a while were taken by a wrong guess: they go back, where they can be seen."""
        ready = self.runner.ready
        if not ready or now - ready[0].claimed < STUCK or self.runner.free:
            return
        for slot in self.runner.running():
            assert slot.claim is not None
            self._pace.observe(slot.claim.kind, now - slot.started)
        self.counts["claims given back"] += len(ready)
        self._give_back(self.runner.withdraw())
        self._push_back_inbox()

    def _push_back_inbox(self) -> None:
        hints = list(self._inbox)
        self._inbox.clear()
        if hints:
            self._settle(len(hints))
            self._spawn(self._push_back([hint.raw for hint in hints]))

    async def _push_back(self, messages: Sequence[bytes]) -> None:
        if messages and self.consumer is not None:
            await asyncio.to_thread(self.consumer.push_back, messages)

    def _give_back(self, claims: Sequence[Claim]) -> None:
        """Claimed and never begun: back to the queue, at no cost, with the hint."""
        for claim in claims:
            self._ended(Released(claim, 0.0, started=False))

    def _held_or_running(self) -> bool:
        return bool(
            self._taken - self._settled > 0 or self._ends or self._writing or any(slot.claim for slot in self.runner.slots)
        )

    # -- from any thread

    def tick_consumer(self) -> None:
        """Celery's loop lives; called by each of its turns."""
        self.consumer_tick = time.monotonic()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function on the engine's loop, soon."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def running(self) -> list[tuple[Slot, Claim, float]]:
        """What runs now, with the seconds it has run."""
        now = time.monotonic()
        return [(slot, claim, now - slot.started) for slot in self.runner.slots if (claim := slot.claim) is not None]

    def cancel(self, wanted: Sequence[tuple[UUID, int]]) -> None:
        """Stop running jobs of these (id, fence) pairs, which somebody wants cancelled."""
        pairs = set(wanted)

        def stop() -> None:
            for slot in self.runner.running():
                if slot.claim is not None and (slot.claim.id, slot.claim.fence) in pairs and slot.stop is None:
                    slot.ask_to_stop("cancelled")

        self.call(stop)

    def cancel_by_id(self, ids: Sequence[UUID]) -> None:
        """Cancel jobs by id, wherever they are (Celery's `revoke`)."""

        async def cancel() -> None:
            try:
                await act(self._database, CANCEL, ids, (State.CANCELLED,), reason="revoked")
            except CarafeError as error:
                log.warning("revoke failed", error=str(error))

        def begin() -> None:
            self._spawn(cancel())

        self.call(begin)

    def drain(self, timeout: float) -> bool:
        """Stop taking at once, finish what runs within `timeout` seconds, hand back the rest. Blocks; True when clean.

        Call it from a thread of its own: the consumer must go on meanwhile to read the outstanding pop.
        """
        self.draining = True
        if self.consumer is not None:
            self.consumer.stop_taking()

        def withdraw() -> None:
            self._push_back_inbox()
            self._give_back(self.runner.withdraw())

        self.call(withdraw)
        if self._wait_until_idle(timeout):
            return True
        self.hurry()
        clean = self._wait_until_idle(2.0)
        if not clean:
            # Threads that do not return: their jobs go back with the last statement, and the process exits under them.
            self.call(self._release_running)
            self._wait_until_idle(2.0)
        return clean

    def hurry(self) -> None:
        """Ask everything that runs to stop now (a second signal during a drain)."""
        self.call(self.runner.ask_all_to_stop)

    def _release_running(self) -> None:
        for slot in self.runner.running():
            assert slot.claim is not None
            self._ended(Released(slot.claim, time.monotonic() - slot.started))
            slot.claim = None

    def _wait_until_idle(self, timeout: float) -> bool:
        self.idle.clear()
        return self.idle.wait(timeout)

    def stop(self) -> None:
        """End the engine; drain it before. Blocks until it has ended."""
        if self._thread is None:
            return
        self.call(self._stop.set)
        self.stopped.wait(15)
        self._thread.join(1)

    @property
    def held_up(self) -> bool:
        """Whether the engine has ended and its loop cannot be closed: a handler left a thread of the loop's running."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def in_hand(self) -> int:
        """Hints taken and not yet done with, running jobs included."""
        return self._taken - self._settled


def _failed_by_hook(row: Row, error: HookFailed) -> Failed:
    claim = Claim(row, b"", time.monotonic())
    return Failed(claim, 0.0, "hook", "HookFailed", str(error), None, delay=5.0)
