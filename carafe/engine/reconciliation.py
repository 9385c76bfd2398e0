"""Reconciles the claims that this worker holds with what Postgres says at each heartbeat (docs/design rule 9).

Jobs that must stop are stopped before any other job begins. A job that no longer belongs to this worker is stopped, or not
begun if it still waits for a slot. Jobs that run on this worker according to Postgres, but that it does not hold, are queued
again. The heartbeat's thread calls the methods; most of them pass their work on to the engine's event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from carafe.engine.arrivals import Arrivals
from carafe.engine.held_claims import Holdings, InHand
from carafe.engine.hint_returns import HintReturns
from carafe.engine.intake import Intake
from carafe.engine.runner import Runner
from carafe.engine.where import where
from carafe.store.database import Database
from carafe.telemetry.loggers import get_logger
from carafe.texts import in_words

log = get_logger("carafe.engine")

TRUST = 10.0
"""After a successful heartbeat was sent, a worker may start jobs for this many seconds. After that, it may start jobs only
once another heartbeat has told it which claims are still its own."""

Pair = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a heartbeat returned. `sent` is when the heartbeat was sent, in monotonic seconds. `cancel` has the claims whose
    jobs are to be cancelled, and `lost` has the claims that no longer belong to this worker, both as pairs of job id and
    fence. `drain` says that this worker is to drain."""

    sent: float
    cancel: Sequence[Pair]
    lost: Sequence[Pair]
    drain: bool = False


class Reconciliation:
    """Reconciles one worker's claims with Postgres."""

    def __init__(
        self,
        database: Database,
        holdings: Holdings,
        runner: Runner,
        intake: Intake,
        arrivals: Arrivals,
        returns: HintReturns,
        call: Callable[[Callable[[], object]], None],
        drain: Callable[[], None],
        blocker: Callable[[], object],
    ) -> None:
        """The function `call` schedules a call of a function on the engine's event loop. The function `drain` is called on
        that loop when an operator has requested that this worker drain. The function `blocker` returns the claim whose
        attempt blocks that loop, if one does."""
        self._database, self._holdings, self._runner = database, holdings, runner
        self._intake, self._arrivals, self._returns = intake, arrivals, returns
        self._call, self._drain, self._blocker = call, drain, blocker

    @property
    def doubts(self) -> int:
        """The number of claim statements so far whose outcome is unknown: they got no answer, or an unexpected error."""
        return self._arrivals.doubts

    def held(self, since: datetime) -> InHand:
        """Returns the claims that this worker holds, those made before `since` first, and the ids that it is claiming
        now."""
        return self._holdings.in_hand(since)

    def found(self, findings: Findings) -> None:
        """Apply what a heartbeat returned: stop the jobs that must stop, and only then let others start."""
        self._call(lambda: self._apply(findings))

    def unheld(self, ids: Sequence[UUID]) -> None:
        """Queue jobs again that run on this worker according to Postgres, but that it does not hold."""
        self._call(lambda: self._returns.unheld(ids))

    def where(self, job_id: UUID, fence: int) -> list[str] | None:
        """Returns the lines of code at which the attempt with this fence is now (`carafe.engine.where`); an empty list if it
        does not run here. Returns None while its child process has not answered. Never raises."""
        claim = self._holdings.find(job_id, fence)
        try:
            return [] if claim is None else where(claim, blocks=self._blocker() is claim)
        except Exception as error:
            return [f"It cannot be told: {in_words(error, 500)}"]

    def missed(self, error: BaseException) -> None:
        """Record that a heartbeat has failed with this error. The database then counts as away until a probe reaches it, so
        that no statement waits forever for an answer."""
        self._call(lambda: self._database.mark_suspect(error))

    def declared_lost(self) -> None:
        """Record that this worker was declared lost, and that its jobs were given to others while it was away."""
        self._call(self._arrivals.declared_lost)

    def _apply(self, findings: Findings) -> None:
        for job_id, fence in findings.lost:
            self._lose(job_id, fence)
        for slot in self._runner.running():
            claim = slot.claim
            if claim is not None and claim.stop is None and (claim.id, claim.fence) in findings.cancel:
                claim.ask_to_stop("cancelled")
        self._runner.trust_until(findings.sent + TRUST)
        self._intake.maybe_wake()
        if findings.drain:
            self._drain()

    def _lose(self, job_id: UUID, fence: int) -> None:
        """Stop a job that no longer belongs to this worker, because it was rescued or cancelled or another process has ended
        it. If the job still waits for a slot, it is not begun."""
        claim = self._holdings.find(job_id, fence)
        if claim is None or claim.completes:
            return
        claim.raw = b""
        if self._runner.forget(claim):
            self._arrivals.give_back([claim])
        elif any(slot.claim is claim for slot in self._runner.slots):
            if not claim.disowned:  # every heartbeat says it again, until the handler has ended
                claim.disowned = True
                log.warning("a running job is no longer ours, stopping it", job_id=str(job_id))
            claim.ask_to_stop("lost")
