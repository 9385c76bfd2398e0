"""The ledger takes claims and writes ends, in batches. Each write names the fence of its claim, so that Postgres can refuse
it if the job has been given to another worker. A worker changes the state of jobs only through the ledger, except where a
handler's own transaction ends its job (`contexts`). The log says how an attempt ended once that is written.

Guarantees: every end that the runner hands over is written, even after a long outage of Postgres, unless the job no longer
belongs to this worker; if the reply to a claim was lost, the jobs are queued again before the next try; one bad row or hook
never holds up its batch.
Must never: start a job, or depend on how handlers run.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from carafe.engine.claim import Claim
from carafe.engine.completions import (
    ATTEMPT_FAILS,
    BY_AN_OPERATOR,
    INSTEAD,
    RETURNED,
    STALE,
    SUCCEEDED,
    End,
    Failed,
    Outcome,
    Settlement,
    Succeeded,
    failed_by_hook,
)
from carafe.engine.statements import DEFER, FENCES
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import State
from carafe.locks import row_holders
from carafe.store.database import AWAY, PASSING, Connection, Database
from carafe.store.fingerprint import fingerprint
from carafe.store.statements import CLAIM, FINISH, SETTLE
from carafe.store.transitions import HookFailed, hooked, move, noted
from carafe.telemetry import metrics
from carafe.telemetry.job_log import Event, JobLog
from carafe.telemetry.loggers import get_logger
from carafe.telemetry.metrics import BOUNDS

log = get_logger("carafe.ledger")

TRANSIENT: tuple[type[BaseException], ...] = (*PASSING, asyncpg.IdleInTransactionSessionTimeoutError)
"""Errors that pass by themselves: a conflict with another transaction, or a slow Postgres."""

REFUSED: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
)
"""Errors that no retry can fix: Postgres or its driver refuses the data."""

PATIENCE = 10
"""If this many tries in a row fail although Postgres can be used, one job of the batch is taken to be the cause (its hook
may end its own connection, for example). Then the batch is split, so that this job does not hold up the others."""

HELD_UP = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""Errors that may be caused by a lock of another database session."""

LOOK = 2.0
"""Seconds that the search for the session which holds a lock may take."""

Unwritten = tuple[End, Exception]
"""An end that could not be written, and the error: an unexpected one, or one that remained after every retry."""

CLAIM_FAULTS = 3
"""When a batch is claimed job by job and already the first jobs fail, this many in a row, the rest of the batch is given up,
since the jobs are then not the cause."""

Row = Mapping[str, Any]

SETTLED = (State.QUEUED, State.SCHEDULED, State.RETRYING, State.DEAD, State.CANCELLED)
"""The states that a job may enter after an attempt that did not succeed."""


class Left(Exception):
    """Raised when a claim has failed and is not tried again: its hints are to be pushed back for other workers."""


class Hinted:
    """A hint whose job is to be claimed: the job's id and kind, and in `raw` the message as bytes."""

    __slots__ = ("id", "kind", "raw")

    def __init__(self, job_id: UUID, kind: str, raw: bytes) -> None:
        self.id, self.kind, self.raw = job_id, kind, raw


class Ledger:
    """The ledger of one worker. Used on the engine's loop."""

    def __init__(
        self,
        database: Database,
        worker: UUID,
        worker_name: str,
        kinds: Sequence[str],
        leaves: Callable[[], bool] = lambda: False,
        job_log: JobLog | None = None,
    ) -> None:
        """The function `leaves` is called when a claim has failed. If it returns True, the hints are left to other workers;
        otherwise the claim is tried again. `job_log` gets a line for each end that is written (None: no lines)."""
        self._database, self._leaves = database, leaves
        self._worker, self._worker_name = worker, worker_name
        self._kinds = list(kinds)
        self._job_log = job_log
        self._hooked_claims = hooked_kinds(State.RUNNING)
        self._hooked_successes = hooked_kinds(State.SUCCEEDED)
        self._hooked_others = hooked(SETTLED)
        self.hooked = self._hooked_successes | self._hooked_others
        """The kinds whose ends run hooks. Writing such an end may take as long as a hook may take."""
        self.counts: Counter[str] = Counter()
        self.doubts = 0

    async def claim(self, hints: Sequence[Hinted]) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        """Claim those jobs of `hints` that can be claimed. If Postgres cannot be used, waits until it can.

        Returns two lists. The first has the rows of the claimed jobs. The second has the rows of jobs whose hook failed,
        each with the error: they are claimed too, and the caller must end their attempts as failed. Raises `Left` if the
        claim has failed and `leaves` returns True.
        """
        return await self._until_claimed(hints, PATIENCE)

    async def _until_claimed(self, hints: Sequence[Hinted], patience: int) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        pause = 0.05
        tries = 0
        while True:
            began = time.monotonic()
            try:
                rows, bad = await self._claim(hints)
                metrics.CLAIM_SECONDS.observe(metrics.QUEUED, time.monotonic() - began)
                metrics.CLAIM_JOBS.observe(metrics.QUEUED, len(hints))
                _count_claims([*rows, *(row for row, _ in bad)] if bad else rows)
                return rows, bad
            except (*AWAY, *TRANSIENT) as error:
                self.doubts += 1
                if self._leaves():
                    log.warning("claim failed; the hints go back to the queue", error=_word(error), hints=len(hints))
                    raise Left from error
                tries = self._tries(tries)
                if tries >= patience and len(hints) == 1:
                    raise
                if tries >= patience:
                    log.error("claim fails although Postgres can be used, claiming one by one", error=_word(error))
                    return await self._claim_singly(hints)
                log.warning("claim failed, trying again", error=_word(error), hints=len(hints))
            except Exception:
                self.doubts += 1
                if len(hints) == 1:
                    raise
                log.exception("claim failed, claiming one by one", hints=len(hints))
                return await self._claim_singly(hints)
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(1.0, pause * 2)
            # A failed claim may have been committed: nobody would run its rows.
            await self.hand_back([hint.id for hint in hints])

    async def _held_up(self, error: Exception, ends: Sequence[End]) -> dict[str, object]:
        """Returns the log fields about ends that were not written: the error, the jobs, and, if known, which database
        session locks their rows."""
        said: dict[str, object] = {"error": _word(error), "jobs": [str(end.id) for end in ends[:10]]}
        if self._database.away or not isinstance(error.__cause__ or error, HELD_UP):
            return said
        with contextlib.suppress(*AWAY, asyncpg.PostgresError):
            async with asyncio.timeout(LOOK), self._database.connection() as connection:
                found = await row_holders(connection, [end.id for end in ends])
                if found:
                    said["held_by"] = "; ".join(found)
        return said

    def _tries(self, before: int) -> int:
        """Returns the number of failed tries: one more than `before`. Returns 0 while Postgres is away, since tries do not
        count then."""
        return 0 if self._database.away else before + 1

    async def _claim_singly(self, hints: Sequence[Hinted]) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        """Claim the jobs of a batch one by one, because one of them may be the cause of an error. A job that cannot be
        claimed stays queued, and the steward pushes its hint again. Returns the same as `claim`."""
        await self.hand_back([hint.id for hint in hints])
        rows: list[Row] = []
        bad: list[tuple[Row, HookFailed]] = []
        faults = 0
        for hint in hints:
            try:
                claimed, failed = await self._until_claimed([hint], 1)
            except Left:
                break  # a job that is not claimed counts as a dropped hint: the steward pushes it again
            except Exception:
                faults += 1
                log.exception("claim failed; the hint is dropped", job_id=str(hint.id))
                if faults == CLAIM_FAULTS and not rows and not bad:
                    break
                continue
            rows += claimed
            bad += failed
        return rows, bad

    async def _claim(self, hints: Sequence[Hinted]) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        plain = hints
        rows: list[Row] = []
        bad: list[tuple[Row, HookFailed]] = []
        if self._hooked_claims:
            plain = [hint for hint in hints if hint.kind not in self._hooked_claims]
            hooked = [hint for hint in hints if hint.kind in self._hooked_claims]
            if hooked:
                rows, failed = await move(self._database, hooked, self._run_claim, (State.RUNNING,), then=ATTEMPT_FAILS)
                for hint, error in failed:
                    async with self._database.connection() as connection:
                        bad += [(row, error) for row in await self._run_claim(connection, [hint])]
        if plain:
            async with self._database.connection() as connection:
                rows = [*rows, *await self._run_claim(connection, plain)]
        return rows, bad

    async def _run_claim(self, connection: Connection, hints: Sequence[Hinted]) -> Sequence[Row]:
        ids = [hint.id for hint in hints]
        return await CLAIM.fetch(connection, worker=self._worker, ids=ids, kinds=self._kinds)

    async def hand_back(self, ids: Sequence[UUID]) -> Sequence[Row]:
        """Queue those of these jobs again that run on this worker according to Postgres. The caller must know that this
        worker does not hold them. The jobs keep all their attempts.

        Returns the rows of the queued jobs. Returns an empty list if Postgres cannot be used; then the next heartbeat finds
        the jobs again.
        """
        try:
            async with self._database.connection() as connection:
                found = await FENCES.fetch(connection, ids=ids)
            return await self._settle([_returned(row) for row in found])
        except (*AWAY, *TRANSIENT) as error:
            log.warning("claims not handed back yet", error=_word(error))
            return []

    async def defer(self, hints: Sequence[Hinted], *, longest: float = 60.0) -> None:
        """Leave jobs that this worker cannot run to other workers. The steward pushes their hints again after a pause, which
        grows each time to at most `longest` seconds."""
        try:
            async with self._database.connection() as connection:
                await DEFER.execute(connection, ids=[hint.id for hint in hints], longest=longest)
        except (*AWAY, *TRANSIENT):
            pass  # the row keeps its old stamp, and the steward pushes it again

    async def write(self, ends: Sequence[End]) -> list[Unwritten]:
        """Write all of these ends in as few statements as possible. If Postgres cannot be used, waits until it can.

        Returns the ends that could not be written, each with its error. The caller keeps these and tries again.
        """
        succeeded: list[Succeeded] = []
        hooked_successes: list[Succeeded] = []
        others: list[End] = []
        hooked_others: list[End] = []
        for end in ends:
            if type(end) is Succeeded:
                (hooked_successes if end.claim.kind in self._hooked_successes else succeeded).append(end)
            else:
                (hooked_others if end.claim.kind in self._hooked_others else others).append(end)
        left: list[Unwritten] = []
        # What waits for no hook comes first.
        for group, write in (
            (succeeded, self._write_succeeded),
            (others, self._write_others),
            (hooked_successes, self._write_hooked_successes),
            (hooked_others, self._write_others),
        ):
            if group:
                left += await self._until_written(group, write)
        return left

    def completed(self, end: End) -> None:
        """Count and log the end of a job that the handler's own transaction has already written."""
        self._ended(end.outcome, [end])

    async def _until_written(
        self,
        ends: Sequence[Any],
        write: Callable[[Sequence[Any]], Awaitable[None]],
        *,
        told: bool = False,
        patience: int = PATIENCE,
    ) -> list[Unwritten]:
        """Write a group of ends with the function `write`, and try again while Postgres is away. Returns the ends that could
        not be written. `told` is True if the ends are replacements, which report that Postgres refused the jobs' true ends;
        then no second replacement is tried."""
        pause = 0.05
        tries = 0
        while True:
            began = time.monotonic()
            try:
                await write(ends)
                metrics.END_SECONDS.observe(metrics.QUEUED, time.monotonic() - began)
                metrics.END_JOBS.observe(metrics.QUEUED, len(ends))
                return []
            except Exception as error:
                passes = isinstance(error, (*AWAY, *TRANSIENT)) and not _refuses(error)
                if passes:
                    tries = self._tries(tries)
                if passes and tries < patience:
                    log.warning("ends not written yet, trying again", **await self._held_up(error, ends), ends=len(ends))
                elif len(ends) > 1:
                    # One bad end must not hold up the others.
                    left: list[Unwritten] = []
                    for end in ends:
                        left += await self._until_written([end], write, told=told, patience=1 if passes else patience)
                    return left
                elif _refuses(error) and not told:
                    return await self._until_written([_refused(ends[0], error)], self._write_others, told=True)
                else:
                    # The job is done, and must not run again for a fault of ours.
                    return [(ends[0], error)]
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(1.0, pause * 2)

    async def _write_succeeded(self, ends: Sequence[Succeeded]) -> None:
        async with self._database.connection() as connection:
            rows = await _finish(connection, ends)
        self._succeeded(rows, ends)

    async def _write_hooked_successes(self, ends: Sequence[Succeeded]) -> None:
        async def run(connection: Connection, batch: Sequence[Succeeded]) -> Sequence[Row]:
            return _with_claims(await _finish(connection, batch), batch)

        rows, bad = await move(self._database, ends, run, (State.SUCCEEDED,), then=ATTEMPT_FAILS)
        failed = {end.id for end, _ in bad}
        self._succeeded(rows, [end for end in ends if end.id not in failed] if failed else ends)
        if bad:
            await self._write_others([failed_by_hook(end.claim, end.seconds, error) for end, error in bad])

    async def _write_others(self, ends: Sequence[End]) -> None:
        rows = await self._settle([end.settlement() for end in ends])
        states = {row["id"]: row["state"] for row in rows}
        groups: dict[Outcome, list[End]] = {}
        stale: list[End] = []
        for end in ends:
            if (state := states.get(end.id)) is not None:
                outcome = end.outcome
                groups.setdefault(outcome if outcome.state == state else INSTEAD[state], []).append(end)
            else:
                stale.append(end)
        for outcome, group in groups.items():
            self._ended(outcome, group)
        self._stale(stale)

    async def _settle(self, told: Sequence[Settlement]) -> list[Row]:
        """Write ends, and run the hooks of the states that their jobs enter. If a hook fails, the end is written without the
        hook's changes and with a note in its error, since the attempt must end in any case. Returns the rows that were
        written."""
        if not told:
            return []
        if self._hooked_others.isdisjoint([one.kind for one in told]):
            async with self._database.connection() as connection:
                return list(await self._run_settle(connection, told))
        rows, bad = await move(self._database, told, self._run_settle, SETTLED, then="the end is written without it")
        for one, error in bad:
            async with self._database.connection() as connection:
                rows += await self._run_settle(connection, [_noted(one, error)])
        return rows

    async def _run_settle(self, connection: Connection, told: Sequence[Settlement]) -> Sequence[Row]:
        return await SETTLE.fetch(
            connection,
            ids=[one.id for one in told],
            fences=[one.fence for one in told],
            states=[one.state.value for one in told],
            spends=[one.spends for one in told],
            causes=[one.cause for one in told],
            error_classes=[one.error_class for one in told],
            errors=[one.error for one in told],
            tracebacks=[one.traceback for one in told],
            fingerprints=[_fingerprint(one) for one in told],
            delays=[one.delay for one in told],
            traces=[one.traced for one in told],
            worker=self._worker,
            worker_name=self._worker_name,
            bounds=BOUNDS,
        )

    def _succeeded(self, rows: Sequence[Row], ends: Sequence[End]) -> None:
        """Count and log the successes that were written (`rows`), and those that were not because they are stale."""
        if len(rows) < len(ends):
            written = {row["id"] for row in rows}
            self._stale([end for end in ends if end.id not in written])
            ends = [end for end in ends if end.id in written]
        self._ended(SUCCEEDED, ends)

    def _ended(self, outcome: Outcome, ends: Sequence[End]) -> None:
        """Count and log ends that are written."""
        self.counts[outcome.name] += len(ends)
        _count_ends(outcome, ends)
        job_log = self._job_log
        if job_log is None or outcome.event is None:
            return
        if outcome is SUCCEEDED:
            for end in ends:
                claim = end.claim
                job_log.completed(claim.id, claim.kind, claim.attempt, end.seconds, claim.trace_id)
        else:
            for end in ends:
                _log_end(job_log, outcome.event, end, delayed=outcome.state in (State.RETRYING, State.SCHEDULED))

    def _stale(self, ends: Sequence[End]) -> None:
        """Count and log ends that changed nothing, because their jobs are no longer this worker's."""
        self.counts["stale"] += len(ends)
        metrics.STALE_WRITES.add(metrics.QUEUED, len(ends))
        for end in ends:
            if self._job_log is not None and end.outcome.event is not None:
                _log_end(self._job_log, STALE, end, delayed=False)


def _log_end(job_log: JobLog, event: Event, end: End, *, delayed: bool) -> None:
    claim, told = end.claim, end.settlement()
    error = None if told.cause is None else f"{told.error_class}: {told.error}"
    delay = told.delay if delayed else None
    job_log.ended(event, claim.id, claim.kind, claim.attempt, end.seconds, error, delay, claim.trace_id)


def _count_claims(rows: Sequence[Row]) -> None:
    """Count a batch of claims by kind. All of them were made at the same moment."""
    if not rows:
        return
    started = rows[0]["started_at"]
    kinds = {row["kind"] for row in rows}
    for kind in kinds:
        of_kind = rows if len(kinds) == 1 else [row for row in rows if row["kind"] == kind]
        waits = [(started - row["due_at"]).total_seconds() for row in of_kind]
        metrics.STARTED.add((QUEUE, kind), len(waits))
        metrics.WAIT_SECONDS.observe_many((QUEUE, kind), waits)


def _count_ends(outcome: Outcome, ends: Sequence[End]) -> None:
    """Count a batch of written ends, by kind."""
    kinds = {end.claim.kind for end in ends}
    for kind in kinds:
        of_kind = ends if len(kinds) == 1 else [end for end in ends if end.claim.kind == kind]
        metrics.FINISHED.add((QUEUE, kind, outcome.label), len(of_kind))
        if outcome.timed:
            metrics.RUN_SECONDS.observe_many((QUEUE, kind), [end.seconds for end in of_kind])
            if outcome.state.ended:
                metrics.ATTEMPTS.observe_many((QUEUE, kind), [end.claim.attempt for end in of_kind])


async def _finish(connection: Connection, ends: Sequence[Succeeded]) -> Sequence[Row]:
    claims = [end.claim for end in ends]
    return await FINISH.fetch(
        connection,
        ids=[claim.id for claim in claims],
        fences=[claim.fence for claim in claims],
        results=[end.result for end in ends],
        bounds=BOUNDS,
    )


def _with_claims(rows: Sequence[Row], ends: Sequence[Succeeded]) -> list[Row]:
    """Returns the rows that are passed to the hooks of succeeded jobs. Since finish.sql returns only ids, each is the row of
    the claim with the job's end added."""
    by_id = {end.claim.id: end for end in ends}
    found = [by_id[row["id"]] for row in rows]
    return [
        {
            **dict(end.claim.row),
            "attempt": end.claim.attempt,
            "state": State.SUCCEEDED.value,
            "result": end.result,
            "error": None,
        }
        for end in found
    ]


def _returned(row: Row) -> Settlement:
    """Returns the settlement that queues a job again: it was claimed, but the reply to the claim was lost, so no worker has
    begun it."""
    return Settlement(row["id"], row["fence"], row["kind"], RETURNED.state, RETURNED.spends)


def _fingerprint(told: Settlement) -> str | None:
    return None if told.error_class is None else fingerprint(told.kind, told.error_class, told.error or "")


def _noted(told: Settlement, error: HookFailed) -> Settlement:
    """Returns the end with a note in its error that its hook failed. For an end without an error, Postgres stores this text
    only if Postgres turns the end into a cancellation that an operator requested."""
    return told._replace(error=noted(told.error or BY_AN_OPERATOR, error))


def _refused(end: End, error: Exception) -> Failed:
    """Returns the end to write if Postgres refuses to store a job's true end (because a value is out of range, for example):
    the job is dead, and its error says why."""
    text = f"Postgres refused the job's end: {type(error).__name__}: {error}"
    claim: Claim = end.claim
    return Failed(claim, end.seconds, "result", "ResultNotUsable", text.replace("\0", ""), None, delay=0.0, final=True)


def _refuses(error: BaseException) -> bool:
    """Returns whether the row's own data caused the error. A missing partition raises the same error as a failed check, but
    the error names no constraint then, and the data is not the cause."""
    if isinstance(error, asyncpg.CheckViolationError):
        return error.constraint_name is not None
    return isinstance(error, REFUSED)


def _word(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
