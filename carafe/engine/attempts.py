"""The contexts that handlers get: what they know of their attempt, progress, and the transaction that ends the job."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from carafe.database import AWAY, Database
from carafe.engine.captured_logs import running
from carafe.engine.results import encode_result
from carafe.engine.slot import Claim
from carafe.jobs.errors import InvalidOption, StaleClaim
from carafe.jobs.moves import run_hooks
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import FINISH, PROGRESS
from carafe.jobs.statistics import BOUNDS
from carafe.texts import text_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from carafe.database import HookedTransaction
    from carafe.engine.hiding import Hiding

PROGRESS_INTERVAL = 0.25
"""Seconds between two writes of an attempt's progress; what comes sooner is left out, the last one (1.0) never."""


class AttemptContext:
    """The context of an ``async def`` handler; see `carafe.jobs.context.Context`."""

    __slots__ = ("_claim", "_database", "_limit", "_reported", "_row", "completed", "hiding", "result", "tell")

    def __init__(self, row: Any, claim: Claim | None, database: Database, limit: int) -> None:
        """`claim` None: in a child process, which is killed and never asked to stop; its `hiding` is set then, and `tell`,
        which tells the worker whether the job completes by a transaction."""
        self._row, self._claim, self._database, self._limit = row, claim, database, limit
        self._reported = 0.0
        self.hiding: Hiding | None = None
        self.tell: Callable[[bool], None] | None = None
        self.result: Any = None
        self.completed = False

    @property
    def job_id(self) -> UUID:
        return as_uuid(self._row["id"])

    @property
    def kind(self) -> str:
        return str(self._row["kind"])

    @property
    def attempt(self) -> int:
        return int(self._row["attempt"]) + 1

    @property
    def max_attempts(self) -> int:
        return int(self._row["max_attempts"])

    @property
    def timeout(self) -> float:
        return float(self._row["timeout"])

    @property
    def deadline(self) -> datetime:
        deadline: datetime = self._row["deadline_at"]
        return deadline

    @property
    def cancelled(self) -> bool:
        return self._claim is not None and self._claim.stop is not None

    @property
    def database(self) -> Database:
        return self._database

    def _hiding(self) -> "Hiding | None":
        return self.hiding if self._claim is None else self._claim.hiding

    async def progress(self, fraction: float, note: str = "") -> None:
        values = progress_values(fraction, note)
        hiding = self._hiding()
        if hiding is not None and values["note"]:
            values["note"] = hiding.text(values["note"])
        now = time.monotonic()
        if now - self._reported < PROGRESS_INTERVAL and fraction < 1:
            return
        self._reported = now
        try:
            async with self._database.connection() as connection:
                arguments = PROGRESS.arguments(**values, id=self._row["id"], fence=self._row["fence"])
                await connection.execute(PROGRESS.positional, *arguments)
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # progress is best effort: a database that is away or refuses it must not fail the handler

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[AsyncSession]":
        if self.completed:
            raise InvalidOption("transaction", "this attempt has already completed its job in a transaction")
        try:
            async with self._completing() as transaction:
                yield transaction.session
        except BaseException:
            self._completes(False)
            raise
        self.completed = True

    def _completes(self, yes: bool) -> None:
        """The commit that ends the job is about to be sent: from then on a beat may find its row gone. Or it has failed."""
        if self._claim is not None:
            self._claim.completes = yes
        elif self.tell is not None:
            self.tell(yes)

    @asynccontextmanager
    async def _completing(self) -> "AsyncIterator[HookedTransaction]":
        # The handler's own time bounds the block; should this process vanish, Postgres gives it up a little later.
        async with self._database.hooked(statement_timeout=0, lock_timeout=0, idle_timeout=self.timeout + 10) as transaction:
            with transaction.lent():
                yield transaction
                await transaction.session.flush()
            await self._database.limit(transaction)
            row = self._row
            result = encode_result(self.result, self._limit)
            hiding = self._hiding()
            if hiding is not None and result is not None:
                result = hiding.json(result)
            arguments = FINISH.arguments(
                ids=[row["id"]], fences=[row["fence"]], results=[result], state="succeeded", reason=None, bounds=BOUNDS
            )
            async with transaction.by_index():
                rows = await transaction.connection.fetch(FINISH.positional, *arguments)
            if not rows:
                raise StaleClaim(self.job_id, row["fence"])
            ended = {**dict(row), "attempt": self.attempt, "state": "succeeded", "result": result, "error": None}
            await run_hooks(transaction, ended, self._context_of_hooks())
            self._completes(True)

    def _context_of_hooks(self) -> Context:
        """An empty one, in which what the hook logs, takes and makes belongs to this attempt: it waits for the hook."""
        context = Context()
        context.run(running.set, self._claim)
        return context


class ThreadContext:
    """The context of a plain function in a thread; see `carafe.jobs.context.SyncContext`."""

    __slots__ = ("_context", "_report")

    def __init__(self, context: AttemptContext, report: Callable[[float, str], None]) -> None:
        self._context, self._report = context, report

    @property
    def job_id(self) -> UUID:
        return self._context.job_id

    @property
    def kind(self) -> str:
        return self._context.kind

    @property
    def attempt(self) -> int:
        return self._context.attempt

    @property
    def max_attempts(self) -> int:
        return self._context.max_attempts

    @property
    def timeout(self) -> float:
        return self._context.timeout

    @property
    def deadline(self) -> datetime:
        return self._context.deadline

    @property
    def cancelled(self) -> bool:
        return self._context.cancelled

    def progress(self, fraction: float, note: str = "") -> None:
        progress_values(fraction, note)
        self._report(fraction, note)


def progress_values(fraction: float, note: str) -> dict[str, Any]:
    """Checked values for progress.sql; the note is made what Postgres can store. Raises `InvalidOption`."""
    if not 0 <= fraction <= 1:
        raise InvalidOption("fraction", f"must be from 0 to 1 (got {fraction})")
    said = note.replace("\0", "") if type(note) is str else note
    return {"fraction": float(fraction), "note": text_of(said, 500) or None}
