"""Turns hints into running jobs: claims the jobs in batches and gives the claims to the runner, whose slots start them.

1. `take` (on the consumer's thread) keeps the hints of jobs that the slots can start now, plus about 100 ms of work; it
   returns the other hints
2. the jobs of the kept hints are claimed in batches, and the claims go to the runner
3. claimed jobs that this worker cannot run are queued again for other workers, and so are claimed jobs that have waited too
   long for a slot
Guarantees: a hint that was taken is claimed, given back, or counted as dropped; if slots are stuck, the waiting jobs become
visible to the autoscaler again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from carafe.engine.claim import Claim
from carafe.engine.completions import Released, failed_by_hook
from carafe.engine.held_claims import Holdings
from carafe.engine.hint_returns import HintReturns
from carafe.engine.intake import Intake
from carafe.engine.ledger import Hinted, Ledger, Left
from carafe.engine.runner import Runner
from carafe.engine.runtimes import Pace
from carafe.engine.tasks import Tasks
from carafe.engine.writer import Writer
from carafe.store.transitions import HookFailed
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.engine")

CLAIM_AT_ONCE = 500
CLAIMS = 3
"""`CLAIM_AT_ONCE` is the maximum number of jobs in one claim statement, `CLAIMS` that of claim statements at the same
time."""

STUCK = 0.15
"""Claimed jobs that no slot has started are queued again when the oldest claim has waited this many seconds, but only if
`STUCK_FOR` permits it too."""

STUCK_FOR = 1.0
"""Claimed jobs that wait are queued again only if it would take more than this many seconds to start all of them, at the
rate at which jobs began in the last `STUCK` seconds."""

TICK = 0.05
"""Seconds between two ticks of the engine. Each tick calls `Arrivals.give_back_stuck`."""

STUCK_TICKS = 1 + round(STUCK / TICK)

SUSPECT_PAUSE = 2.0
"""The maximum number of seconds until the hint of a suspect that was left to other workers is pushed again."""

STRANGER_PAUSE = 60.0
"""For a job whose arguments have a newer version than this worker knows: the maximum number of seconds until its hint is
pushed again."""


class Arrivals:
    """Claims the jobs of one worker's hints. Its methods run on the engine's event loop, except `take` and `doubts`. The
    engine runs `run` as a service, and restarts it if it ends."""

    def __init__(
        self,
        intake: Intake,
        ledger: Ledger,
        runner: Runner,
        writer: Writer,
        holdings: Holdings,
        returns: HintReturns,
        pace: Pace,
        counts: Counter[str],
        versions: Mapping[str, int],
        draining: Callable[[], bool],
    ) -> None:
        """`versions` has, by kind of job, the newest version of the arguments that this worker knows. The function
        `draining` returns whether this worker drains."""
        self._intake, self._ledger, self._runner, self._writer = intake, ledger, runner, writer
        self._holdings, self._returns, self._pace, self._counts = holdings, returns, pace, counts
        self._versions, self._draining = versions, draining
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._claims = asyncio.Semaphore(CLAIMS)
        self._tasks = Tasks()
        self._begun: deque[int] = deque()
        self._times_lost = 0
        self._doubts = 0

    def start(self) -> None:
        """Accept hints from now on."""
        self._loop = asyncio.get_running_loop()
        self._intake.closed = False

    def take(self, batch: Sequence[Hinted]) -> Sequence[Hinted]:
        """Accept hints in the order in which they were popped. Returns those that were not accepted, for the caller to push
        back. Called on the consumer's thread."""
        rest = self._intake.take(batch)
        if len(rest) < len(batch):
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._arrived.set)
        return rest

    @property
    def doubts(self) -> int:
        """The number of claim statements so far whose outcome is unknown: they got no answer, or an unexpected error.
        Callable from any thread."""
        return self._ledger.doubts + self._doubts

    def declared_lost(self) -> None:
        """Record that this worker was declared lost and its jobs were given to others. Jobs whose claim statement is still
        under way are queued again, since they may have been claimed before that."""
        self._times_lost += 1

    async def run(self) -> None:
        """Claim the jobs of hints as they arrive, forever."""
        intake = self._intake
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if intake.foreign:
                foreign, intake.foreign = intake.foreign, []
                self._counts["hints of foreign kinds"] += len(foreign)
                intake.settle(len(foreign))
                self._returns.defer(foreign)
            while intake.inbox:
                await self._claims.acquire()
                if not intake.inbox:  # withdrawn meanwhile
                    self._claims.release()
                    break
                batch = [intake.inbox.popleft() for _ in range(min(CLAIM_AT_ONCE, len(intake.inbox)))]
                self._tasks.spawn(self._claim(batch))

    async def _claim(self, batch: Sequence[Hinted]) -> None:
        self._holdings.claiming(batch)
        times_lost = self._times_lost
        claims: list[Claim] = []
        bad: list[tuple[Claim, HookFailed]] = []
        fate = "hints dropped"
        try:
            rows, failed = await self._ledger.claim(batch)
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
            self._returns.push([hint.raw for hint in batch])
        except Exception:
            # Unexpected. What the claim may have taken is unheld, and the heartbeat hands it back; the jobs are
            # queued, and the steward pushes their hints again.
            log.exception("claim failed", hints=len(batch))
            self._doubts += 1
        finally:
            self._claims.release()
            self._holdings.claimed(batch, [*claims, *(claim for claim, _ in bad)])
        dropped = len(batch) - len(claims) - len(bad)
        if dropped:
            self._counts[fate] += dropped
            self._intake.settle(dropped)
        for claim, error in bad:
            self._writer.end(failed_by_hook(claim, 0.0, error))
        self._offer(claims, lost=times_lost != self._times_lost)

    def _offer(self, claims: Sequence[Claim], *, lost: bool) -> None:
        """Give claims to the runner. `lost` says that this worker was declared lost while the claims were made. Then the
        jobs may belong to other workers already, and are queued again instead."""
        versions = self._versions
        newer = [claim for claim in claims if claim.row["version"] > versions[claim.kind]]
        if newer:
            # Enqueued by a newer release: left to workers that know it, like a kind that we do not have.
            claims = [claim for claim in claims if claim.row["version"] <= versions[claim.kind]]
            self._leave_to_others(newer, longest=STRANGER_PAUSE)
        if self._draining() or lost:
            self.give_back(claims)
        else:
            self._leave_to_others(self._runner.offer(claims), longest=SUSPECT_PAUSE)

    def give_back_stuck(self, now: float) -> None:
        """Queue claimed jobs again that have waited too long for a slot (see `STUCK`), since the autoscaler counts only jobs
        in the queue. Called at each tick of the engine."""
        runner, begun = self._runner, self._begun
        begun.append(runner.begun)
        if len(begun) > STUCK_TICKS:
            begun.popleft()
        ready = runner.ready
        if not ready or now - ready[0].claimed < STUCK:
            return
        # The rate of begun jobs decides, not the wait alone: a process that gets no CPU is not stuck.
        if len(ready) * STUCK <= (begun[-1] - begun[0]) * STUCK_FOR and not self._intake.held_up:
            return
        for slot in runner.running():
            if (claim := slot.claim) is not None:
                self._pace.observe(claim.kind, now - claim.started)
        self._counts["claims given back"] += len(ready)
        self.withdraw()

    def withdraw(self) -> None:
        """Give back everything that no slot has started: claimed jobs become queued, unclaimed hints return to the list."""
        self.give_back(self._runner.withdraw())
        hints = self._intake.withdraw()
        if hints:
            self._returns.push([hint.raw for hint in hints])

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Queue claimed jobs again that no slot has started, and push their hints back. The jobs keep all their attempts."""
        for claim in claims:
            self._writer.end(Released(claim, 0.0, started=False))

    def _leave_to_others(self, claims: Sequence[Claim], *, longest: float) -> None:
        """Queue claimed jobs again for other workers. The jobs keep all their attempts. Their hints are pushed later, after
        a pause that grows each time, to at most `longest` seconds."""
        for claim in claims:
            self._writer.end(Released(claim, 0.0, started=False, defer=longest))


def _by_id(claim: Claim) -> bytes:
    return claim.id.bytes
