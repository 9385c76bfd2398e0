"""Writes how attempts have ended: collects their ends in groups, and has the ledger write each group.

1. while claimed jobs wait for a slot, an end is not written at once, but for at most `GATHER` seconds later, together with
   other ends
2. when the end of a job is written, the worker has room for another job
3. each kind of job with hooks has a queue of its own, so that a hook that hangs delays only jobs of its own kind
4. if an unexpected error prevents the writing of an end, that is retried forever, after pauses that grow
5. the hints of jobs that were handed back are pushed once their rows are written
Guarantees: no end is dropped, even after errors, and no end delays others for long. Writing an end twice is harmless.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence, Sized

from carafe.engine.completions import Completed, End, Failed, Released
from carafe.engine.held_claims import Holdings
from carafe.engine.hint_returns import HintReturns
from carafe.engine.intake import Intake
from carafe.engine.ledger import Ledger
from carafe.engine.log_writer import LogWriter
from carafe.engine.tasks import Tasks
from carafe.telemetry.job_log import JobLog
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.engine")

GATHER = 0.02
"""While claimed jobs wait for a slot, an end may wait this many seconds for other ends, to be written together with them."""

LATE_PAUSES = (1.0, 30.0)
"""The first and the longest pause, in seconds, between two tries to write ends after an unexpected error."""

WRITE_AT_ONCE = 1000
WRITES = 2
"""`WRITE_AT_ONCE` is the maximum number of ends in one group, `WRITES` that of groups that are written at the same time."""

HOOKED_WRITES = 4
"""The maximum number of groups of ends that run hooks and are written at the same time; at most `WRITES` of them have the
same kind of job. They use the connections for sessions, and claims leave at least this many of those free."""


class Writer:
    """Writes the ends of one worker's attempts. Used on the engine's loop; `run` and `run_late` are services that the engine
    keeps running."""

    def __init__(
        self, ledger: Ledger, holdings: Holdings, intake: Intake, returns: HintReturns, logs: LogWriter, job_log: JobLog
    ) -> None:
        self._ledger, self._holdings, self._intake = ledger, holdings, intake
        self._returns, self._logs, self._job_log = returns, logs, job_log
        self._at_hand: Sized = ()
        self._ends: list[End] = []
        self._late: list[End] = []
        self._writing = 0
        self._ended, self._fallen_behind = asyncio.Event(), asyncio.Event()
        self._writes, self._hooked_writes = asyncio.Semaphore(WRITES), asyncio.Semaphore(HOOKED_WRITES)
        self._hooked: dict[str, list[End]] = {}
        self._hooked_kinds = ledger.hooked
        self._lanes: Counter[str] = Counter()
        self._tasks = Tasks()

    def start(self, at_hand: Sized) -> None:
        """Call this on the engine's loop before any attempt ends. `at_hand` is the collection of claims that wait for a
        slot: while it is not empty, an end waits for other ends."""
        self._loop = asyncio.get_running_loop()
        self._at_hand = at_hand

    @property
    def unwritten(self) -> int:
        """The number of ends that are not written yet. Callable from any thread."""
        hooked = sum(map(len, list(self._hooked.values()))) if self._hooked else 0
        return len(self._ends) + self._writing + len(self._late) + hooked

    def end(self, end: End) -> None:
        """Take over the end of an attempt, to write it soon. A `Completed` is only counted: its end is written already."""
        if end.claim.tail is not None:
            self._logs.ended(end.claim, end.claim.tail, failed=isinstance(end, Failed))
        if type(end) is Completed:
            self._ledger.completed(end)
            self._settle([end])
            return
        if self._hooked_kinds and end.claim.kind in self._hooked_kinds:
            self._hooked.setdefault(end.claim.kind, []).append(end)
            self._ended.set()
            return
        ends = self._ends
        ends.append(end)
        if len(ends) == 1 and self._at_hand:
            self._loop.call_later(GATHER, self._ended.set)
        elif not self._at_hand or len(ends) >= WRITE_AT_ONCE:
            self._ended.set()

    async def run(self) -> None:
        """Write the ends of attempts as they come, forever."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            for kind in self._hooked:
                if self._lanes[kind] < WRITES:
                    self._lanes[kind] += 1
                    self._tasks.spawn(self._write_lane(kind))
            while self._ends:
                await self._writes.acquire()
                self._tasks.spawn(self._write(self._next(WRITE_AT_ONCE)))

    async def run_late(self) -> None:
        """Try again to write the ends that could not be written because of an unexpected error. Runs forever, with pauses
        that grow."""
        pause = LATE_PAUSES[0]
        while True:
            await self._fallen_behind.wait()
            await asyncio.sleep(pause)
            self._fallen_behind.clear()
            async with self._writes:
                released = await self._write_now(self._next_late())
            self._returns.released(released)
            pause = min(LATE_PAUSES[1], pause * 2) if self._late else LATE_PAUSES[0]

    async def finish(self) -> None:
        """Write the remaining ends when the engine ends. A job whose end still cannot be written stays `running` until the
        steward rescues it."""
        while self._ends or self._writing or self._hooked:
            for kind in list(self._hooked):
                self._ends += self._hooked.pop(kind)
            if self._ends:
                self._returns.released(await self._write_now(self._next()))
            else:
                await asyncio.sleep(0.01)
        if self._late:
            self._returns.released(await self._write_now(self._next_late()))
        await self._returns.finish()
        if self._late:
            jobs = [str(end.id) for end in self._late]
            log.error("stopping with ends that could not be written: these jobs will run again", jobs=jobs)

    def _next(self, most: int | None = None) -> list[End]:
        """Take and return the next group of ends: all that wait, or the first `most` of them. From now on the group counts
        as being written."""
        if most is None or len(self._ends) <= most:
            batch, self._ends = self._ends, []
        else:
            batch, self._ends = self._ends[:most], self._ends[most:]
        self._writing += len(batch)
        return batch

    def _next_late(self) -> list[End]:
        batch, self._late = self._late, []
        self._writing += len(batch)
        return batch

    async def _write(self, batch: Sequence[End]) -> None:
        try:
            released = await self._write_now(batch)
        finally:
            self._writes.release()
        self._job_log.flush()
        self._returns.released(released)

    async def _write_lane(self, kind: str) -> None:
        """Write the ends of one kind with hooks, group by group, until none is left."""
        try:
            while kind in self._hooked:
                async with self._hooked_writes:
                    batch = self._hooked.pop(kind, [])
                    self._writing += len(batch)
                    released = await self._write_now(batch)
                self._job_log.flush()
                self._returns.released(released)
        finally:
            self._lanes[kind] -= 1
            if kind in self._hooked:
                self._ended.set()  # this was cancelled: another goes on

    async def _write_now(self, batch: Sequence[End]) -> Sequence[Released]:
        """Write these ends, which the counter `_writing` includes until then. Returns those whose hints must be given back.
        Ends that cannot be written because of an unexpected error are kept, to be retried. If this coroutine is cancelled,
        all of the ends are kept, since writing an end twice is harmless."""
        try:
            left = await self._ledger.write(batch)
        except Exception as error:
            left = [(end, error) for end in batch]
        except BaseException:
            self._late += batch
            self._fallen_behind.set()
            raise
        finally:
            # Before they are settled: if counted twice for a moment, they would make the consumer take too much.
            self._writing -= len(batch)
        if left:
            self._keep(left)
            kept = {id(end) for end, _ in left}
            batch = [end for end in batch if id(end) not in kept]
        self._settle(batch)
        return [end for end in batch if type(end) is Released]

    def _settle(self, ends: Sequence[End]) -> None:
        """Record that these ends are written: their claims are no longer held, and there is room for other jobs."""
        self._holdings.drop([end.claim for end in ends])
        self._intake.settle(len(ends))

    def _keep(self, left: Sequence[tuple[End, Exception]]) -> None:
        """Keep ends that could not be written, to retry them. The worker keeps holding their jobs, so that no other worker
        runs these. They do not delay other ends."""
        self._late += [end for end, _ in left]
        _, error = left[0]
        log.error(
            "ends not written, keeping them", jobs=[str(end.id) for end, _ in left[:10]], ends=len(left), exc_info=error
        )
        self._fallen_behind.set()
