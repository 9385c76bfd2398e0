"""The ledger: takes claims and writes ends, in batches, each write under its fence. The only part of a worker that changes a
job's state.

Guarantees: what the runner hands over is written, however long Postgres is away and whatever goes wrong, foreseen or not, or
found stale and dropped; a claim whose reply was lost is handed back before the next try; one bad row or hook never holds up
its batch.
Must never: start anything, or know how handlers run.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg
import structlog

from carafe import metrics
from carafe.database import AWAY, PASSING, Database
from carafe.engine.ends import Cancelled, End, Failed, Released, Snoozed, Succeeded
from carafe.engine.slot import Claim
from carafe.jobs.hints import QUEUE
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.moves import Connection, HookFailed, move
from carafe.jobs.statements import CLAIM, DEFER, FAIL, FINISH, RELEASE, SNOOZE
from carafe.jobs.states import State
from carafe.jobs.statistics import BOUNDS
from carafe.locks import row_holders

log = structlog.stdlib.get_logger("carafe.ledger")

TRANSIENT: tuple[type[BaseException], ...] = (*PASSING, asyncpg.IdleInTransactionSessionTimeoutError)
"""What passes by itself: another transaction is in the way, or Postgres is slow."""

REFUSED: tuple[type[Exception], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
)
"""What Postgres, or its driver, will never store, however often it is tried."""

PATIENCE = 10
"""Tries in a row that fail although Postgres can be used, after which it is not Postgres: one of the batch is why (its hook
ends its own connection, say), and must not hold up the others."""

HELD_UP = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""What somebody else's lock may be the reason of."""

LOOK = 2.0
"""Seconds that the look for who holds it may take."""

Unwritten = tuple[End, Exception]
"""An end that could not be written, and the error: one that nobody foresaw, or one that does not pass."""

CLAIM_FAULTS = 3
"""Single claims that fail one after the other before the rest of their batch is given up: it is not the hints."""

Row = Mapping[str, Any]
E = TypeVar("E", bound=End)

PUT_BACK = (State.QUEUED, State.SCHEDULED, State.CANCELLED)
"""What a job can become that is put back: one that somebody wants cancelled ends so."""


class Left(Exception):
    """Nothing was claimed, as far as is known, and others may: the hints go back."""


class Hinted:
    """A hint on its way to a claim: the job's id and kind, and the message's own bytes."""

    __slots__ = ("id", "kind", "raw")

    def __init__(self, job_id: UUID, kind: str, raw: bytes) -> None:
        self.id, self.kind, self.raw = job_id, kind, raw


class Ledger:
    """One worker's books. Lives on the runner's loop."""

    def __init__(
        self,
        database: Database,
        worker: UUID,
        worker_name: str,
        kinds: Sequence[str],
        leaves: Callable[[], bool] = lambda: False,
    ) -> None:
        """`leaves`: whether hints whose claim has failed are left to others, instead of being tried again here."""
        self._database, self._leaves = database, leaves
        self._worker, self._worker_name = worker, worker_name
        self._kinds = list(kinds)
        self._hooked_claims = hooked_kinds(State.RUNNING)
        self._hooked_ends = hooked_kinds(State.SUCCEEDED)
        self.counts: Counter[str] = Counter()
        self.doubts = 0

    async def claim(self, hints: Sequence[Hinted]) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        """Claim what can be claimed of `hints`; waits for Postgres if need be.

        Returns the claimed rows, and those that were claimed although their hook failed (the caller fails them). Raises
        `Left` when they are left to others.
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
                    log.warning("claim failed, the hints go back", error=_word(error), hints=len(hints))
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
            # A failed claim may have been committed: its rows would wait for nobody.
            await self.hand_back([hint.id for hint in hints])

    async def _held_up(self, error: Exception, ends: Sequence[End]) -> dict[str, object]:
        """What a log line says of ends that were not written: why, whose, and who holds their rows if that is seen."""
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
        """One more try has failed; none counts while Postgres is away."""
        return 0 if self._database.away else before + 1

    async def _claim_singly(self, hints: Sequence[Hinted]) -> tuple[list[Row], list[tuple[Row, HookFailed]]]:
        """Nobody foresaw what this batch has met: one of its jobs must not hold up the others. Who cannot be claimed stays
        queued, and the steward pushes its hint again."""
        await self.hand_back([hint.id for hint in hints])
        rows: list[Row] = []
        bad: list[tuple[Row, HookFailed]] = []
        faults = 0
        for hint in hints:
            try:
                claimed, failed = await self._until_claimed([hint], 1)
            except Left:
                break  # who is not claimed counts as one whose hint is dropped: the steward pushes it again
            except Exception:
                faults += 1
                log.exception("claim failed, the hint is dropped", job_id=str(hint.id))
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
                rows, failed = await move(self._database, hooked, self._run_claim, (State.RUNNING,))
                for hint, error in failed:
                    async with self._database.connection() as connection:
                        bad += [(row, error) for row in await self._run_claim(connection, [hint])]
        if plain:
            async with self._database.connection() as connection:
                rows = [*rows, *await self._run_claim(connection, plain)]
        return rows, bad

    async def _run_claim(self, connection: Connection, hints: Sequence[Hinted]) -> Sequence[Row]:
        # CLAIM.arguments, spelled out: this is the hot path.
        ids = [hint.id for hint in hints]
        return cast(Sequence[Row], await connection.fetch(CLAIM.positional, self._worker, ids, self._kinds))

    async def hand_back(self, ids: Sequence[UUID]) -> Sequence[Row]:
        """Hand back rows that run under this worker although it does not hold them; they are queued again at no cost.

        Returns them. When Postgres is away nothing happens; the next heartbeat finds them again.
        """

        async def run(connection: Connection, batch: Sequence[Hinted]) -> Sequence[Row]:
            return await self._release(connection, [hint.id for hint in batch], [None] * len(batch), counts=False)

        try:
            rows, _ = await move(self._database, [Hinted(job_id, "", b"") for job_id in ids], run, PUT_BACK)
        except (*AWAY, *TRANSIENT) as error:
            log.warning("claims not handed back yet", error=_word(error))
            return []
        return rows

    async def defer(self, hints: Sequence[Hinted], *, longest: float = 60.0) -> None:
        """Leave jobs that this worker cannot run to others, for a growing pause, of `longest` seconds at most."""
        try:
            async with self._database.connection() as connection:
                arguments = DEFER.arguments(ids=[hint.id for hint in hints], longest=longest)
                await connection.execute(DEFER.positional, *arguments)
        except (*AWAY, *TRANSIENT):
            pass  # the row keeps its old stamp, and the steward pushes it again

    async def write(self, ends: Sequence[End]) -> list[Unwritten]:
        """Write ends, all of them, in as few statements as there are kinds of ends; waits for Postgres if need be.

        Returns those that an error which nobody foresaw keeps from being written, each alone: the caller keeps them and
        tries again.
        """
        succeeded: list[Succeeded] = []
        hooked: list[Succeeded] = []
        others: dict[type[End], list[End]] = {}
        for end in ends:
            if type(end) is Succeeded:
                (hooked if end.claim.kind in self._hooked_ends else succeeded).append(end)
            else:
                others.setdefault(type(end), []).append(end)
        left: list[Unwritten] = []
        if succeeded:
            left += await self._until_written(succeeded, self._write_succeeded)
        if hooked:
            left += await self._until_written(hooked, self._write_hooked)
        for kind, group in others.items():
            left += await self._until_written(group, _WRITERS[kind].__get__(self))
        return left

    def completed(self, end: End) -> None:
        """Count one that its own handler's transaction has ended."""
        self.counts["succeeded"] += 1
        _count_ends("succeeded", [end])

    async def _until_written(
        self,
        ends: Sequence[Any],
        write: Callable[[Sequence[Any]], Awaitable[None]],
        *,
        told: bool = False,
        patience: int = PATIENCE,
    ) -> list[Unwritten]:
        """Write a group of one kind. `told`: these ends say already what Postgres has refused."""
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
                    return await self._until_written([_refused(ends[0], error)], self._write_failed, told=True)
                else:
                    # The job is done, and must not run again for a fault of ours.
                    return [(ends[0], error)]
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(1.0, pause * 2)

    async def _write_succeeded(self, ends: Sequence[Succeeded]) -> None:
        async with self._database.connection() as connection:
            rows = await _finish(connection, ends, "succeeded", [end.result for end in ends])
        self._count("succeeded", rows, ends)

    async def _write_hooked(self, ends: Sequence[Succeeded]) -> None:
        async def run(connection: Connection, batch: Sequence[Succeeded]) -> Sequence[Row]:
            rows = await _finish(connection, batch, "succeeded", [end.result for end in batch])
            return _with_claims(rows, batch, "succeeded")

        rows, bad = await move(self._database, ends, run, (State.SUCCEEDED,))
        self._count("succeeded", rows, ends, bad=len(bad))
        if bad:
            await self._write_failed([_hook_failed(end, error) for end, error in bad])

    async def _write_failed(self, ends: Sequence[Failed]) -> None:
        async def run(connection: Connection, batch: Sequence[Failed]) -> Sequence[Row]:
            arguments = FAIL.arguments(
                ids=[end.claim.id for end in batch],
                fences=[end.claim.fence for end in batch],
                causes=[end.cause for end in batch],
                error_classes=[end.error_class for end in batch],
                errors=[end.error for end in batch],
                tracebacks=[end.traceback for end in batch],
                fingerprints=[end.fingerprint for end in batch],
                delays=[end.delay for end in batch],
                finals=[end.final for end in batch],
                traces=_traces(batch),
                worker=self._worker,
                worker_name=self._worker_name,
                bounds=BOUNDS,
            )
            return cast(Sequence[Row], await connection.fetch(FAIL.positional, *arguments))

        rows, bad = await move(self._database, ends, run, (State.RETRYING, State.DEAD, State.CANCELLED))
        for end, error in bad:
            # There is no other way to end it: the end is written without its hook, and says so.
            log.error("hook failed, the end is written without it", job_id=str(end.claim.id), error=str(error))
            async with self._database.connection() as connection:
                rows += await run(connection, [_noted(end, error)])
        self._count_by_state(rows, ends)
        self.counts["stale"] += len(ends) - len(rows)

    async def _write_cancelled(self, ends: Sequence[Cancelled]) -> None:
        async def run(connection: Connection, batch: Sequence[Cancelled]) -> Sequence[Row]:
            rows = await _finish(connection, batch, "cancelled", [None] * len(batch), batch[0].reason)
            return _with_claims(rows, batch, "cancelled", batch[0].reason)

        for reason in dict.fromkeys(end.reason for end in ends):
            group = [end for end in ends if end.reason == reason]
            rows, bad = await move(self._database, group, run, (State.CANCELLED,))
            for end, error in bad:
                log.error("hook failed, the end is written without it", job_id=str(end.claim.id), error=str(error))
                async with self._database.connection() as connection:
                    rows += await run(connection, [end])
            self._count("cancelled", rows, group)

    async def _write_snoozed(self, ends: Sequence[Snoozed]) -> None:
        async def run(connection: Connection, batch: Sequence[Snoozed]) -> Sequence[Row]:
            arguments = SNOOZE.arguments(
                ids=[end.claim.id for end in batch],
                fences=[end.claim.fence for end in batch],
                delays=[end.delay for end in batch],
                traces=_traces(batch),
            )
            return cast(Sequence[Row], await connection.fetch(SNOOZE.positional, *arguments))

        await self._put_back(ends, run, "snoozed")

    async def _write_released(self, ends: Sequence[Released]) -> None:
        for started in (True, False):
            group = [end for end in ends if end.started is started]

            async def run(connection: Connection, batch: Sequence[Released], counts: bool = started) -> Sequence[Row]:
                ids, fences = [end.claim.id for end in batch], [end.claim.fence for end in batch]
                return await self._release(connection, ids, fences, counts=counts, traces=_traces(batch))

            if group:
                await self._put_back(group, run, "released", outcome="drained" if started else "returned")

    async def _release(
        self,
        connection: Connection,
        ids: Sequence[UUID],
        fences: Sequence[int | None],
        *,
        counts: bool,
        traces: Sequence[str | None] = (),
    ) -> Sequence[Row]:
        arguments = RELEASE.arguments(ids=ids, fences=fences, traces=traces, counts=counts, worker=self._worker)
        return cast(Sequence[Row], await connection.fetch(RELEASE.positional, *arguments))

    async def _put_back(
        self,
        ends: Sequence[E],
        run: Callable[[Connection, Sequence[E]], Awaitable[Sequence[Row]]],
        count: str,
        outcome: str | None = None,
    ) -> None:
        rows, bad = await move(self._database, ends, run, PUT_BACK)
        for end, error in bad:
            log.error("hook failed, the job is put back without it", job_id=str(end.claim.id), error=str(error))
            async with self._database.connection() as connection:
                rows += await run(connection, [end])
        self.counts[count] += len(rows)
        self.counts["stale"] += len(ends) - len(rows)
        metrics.STALE_WRITES.add(metrics.QUEUED, len(ends) - len(rows))
        cancelled = {row["id"] for row in rows if row["state"] == State.CANCELLED}
        written = {row["id"] for row in rows} - cancelled
        _count_ends(outcome or count, [end for end in ends if end.claim.id in written])
        _count_ends("cancelled", [end for end in ends if end.claim.id in cancelled])

    def _count(self, outcome: str, rows: Sequence[Row], ends: Sequence[End], *, bad: int = 0) -> None:
        """Count what was written; `bad` ends failed by their hooks are counted elsewhere."""
        self.counts[outcome] += len(rows)
        if len(rows) < len(ends):
            written = {row["id"] for row in rows}
            stale = len(ends) - len(rows) - bad
            ends = [end for end in ends if end.claim.id in written]
            self.counts["stale"] += stale
            metrics.STALE_WRITES.add(metrics.QUEUED, stale)
        _count_ends(outcome, ends)

    def _count_by_state(self, rows: Sequence[Row], ends: Sequence[End]) -> None:
        by_id = {end.claim.id: end for end in ends}
        for state, count in Counter(row["state"] for row in rows).items():
            self.counts[state] += count
            _count_ends(state, [by_id[row["id"]] for row in rows if row["state"] == state])
        metrics.STALE_WRITES.add(metrics.QUEUED, len(ends) - len(rows))


_WRITERS: dict[type[End], Any] = {
    Failed: Ledger._write_failed,
    Cancelled: Ledger._write_cancelled,
    Snoozed: Ledger._write_snoozed,
    Released: Ledger._write_released,
}


def _count_claims(rows: Sequence[Row]) -> None:
    """Count a batch of claims, by kind; they share the moment at which they were made."""
    if not rows:
        return
    started = rows[0]["started_at"]
    kinds = {row["kind"] for row in rows}
    for kind in kinds:
        of_kind = rows if len(kinds) == 1 else [row for row in rows if row["kind"] == kind]
        waits = [(started - row["due_at"]).total_seconds() for row in of_kind]
        metrics.STARTED.add((QUEUE, kind), len(waits))
        metrics.WAIT_SECONDS.observe_many((QUEUE, kind), waits)


RAN = frozenset({"succeeded", "retrying", "dead"})
"""Outcomes whose run time says something of the kind: not stopped from outside, nor never begun."""


def _count_ends(outcome: str, ends: Sequence[End]) -> None:
    """Count a batch of written ends, by kind."""
    kinds = {end.claim.kind for end in ends}
    for kind in kinds:
        of_kind = ends if len(kinds) == 1 else [end for end in ends if end.claim.kind == kind]
        metrics.FINISHED.add((QUEUE, kind, outcome), len(of_kind))
        if outcome in RAN:
            metrics.RUN_SECONDS.observe_many((QUEUE, kind), [end.seconds for end in of_kind])
            if outcome != "retrying":
                metrics.ATTEMPTS.observe_many((QUEUE, kind), [end.claim.attempt for end in of_kind])


async def _finish(
    connection: Connection, ends: Sequence[End], state: str, results: Sequence[str | None], reason: str | None = None
) -> Sequence[Row]:
    claims = [end.claim for end in ends]
    arguments = FINISH.arguments(
        ids=[claim.id for claim in claims],
        fences=[claim.fence for claim in claims],
        results=results,
        state=state,
        bounds=BOUNDS,
        reason=reason,
    )
    return cast(Sequence[Row], await connection.fetch(FINISH.positional, *arguments))


def _with_claims(rows: Sequence[Row], ends: Sequence[End], state: str, error: str | None = None) -> list[Row]:
    """What hooks need to know of ended jobs: the claim's row with its end. Only the ids come back from the statement."""
    by_id = {end.claim.id: end for end in ends}
    found = [by_id[row["id"]] for row in rows]
    return [
        {
            **dict(end.claim.row),
            "attempt": end.claim.attempt,
            "state": state,
            "result": end.result if isinstance(end, Succeeded) else None,
            "error": error,
        }
        for end in found
    ]


def _traces(ends: Sequence[End]) -> list[str | None]:
    """What the jobs' traces are from now on: each attempt that was traced leaves word for the next. None: as it was."""
    return [None if end.claim.traced is None else end.claim.traced.next for end in ends]


def _hook_failed(end: End, error: HookFailed) -> Failed:
    return Failed(end.claim, end.seconds, "hook", "HookFailed", str(error), None, delay=5.0)


def _noted(end: Failed, error: HookFailed) -> Failed:
    text = f"{end.error}\n(and its hook failed: {error})"
    return Failed(end.claim, end.seconds, end.cause, end.error_class, text, end.traceback, end.delay, end.final)


def _refused(end: End, error: Exception) -> Failed:
    """Postgres will not store this end (a value out of its range, say): the attempt fails for good, in plain words."""
    text = f"Postgres refused the job's end: {type(error).__name__}: {error}"
    claim: Claim = end.claim
    return Failed(claim, end.seconds, "result", "ResultNotUsable", text.replace("\0", ""), None, delay=0.0, final=True)


def _refuses(error: BaseException) -> bool:
    """Whether the data of the row is why. A row for which no partition stands is refused without a constraint's name."""
    if isinstance(error, asyncpg.CheckViolationError):
        return error.constraint_name is not None
    return isinstance(error, REFUSED)


def _word(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__
