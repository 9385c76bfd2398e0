"""The contexts that handlers get: facts about the attempt, progress, and the transaction that ends the job."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg

from carafe.engine import borrowed_loop
from carafe.engine.captured_logs import running
from carafe.engine.claim import Claim
from carafe.engine.completions import ATTEMPT_FAILS
from carafe.engine.lifespans import Values, value_of
from carafe.engine.progress import progress_values
from carafe.engine.results import encode_result
from carafe.jobs.errors import InvalidOption, StaleClaim
from carafe.jobs.outcomes import Outcome
from carafe.jobs.records import as_uuid
from carafe.jobs.worker_lifespan import WorkerLifespan
from carafe.store.database import AWAY, Database
from carafe.store.statements import FINISH, PROGRESS
from carafe.store.transitions import HookFailed, log_failure, run_hooks
from carafe.telemetry.metrics import BOUNDS
from carafe.texts import class_name, in_words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from carafe.jobs.hiding import Hiding
    from carafe.store.database import HookedTransaction

T = TypeVar("T")

PROGRESS_INTERVAL = 0.25
"""Seconds between two writes of an attempt's progress. A report that comes sooner is not written, unless it is 1.0."""


class AttemptContext:
    """The context of an ``async def`` handler; see `carafe.jobs.context.Context`."""

    __slots__ = (
        "_claim",
        "_database",
        "_limit",
        "_open",
        "_reported",
        "_row",
        "_shared",
        "_stored",
        "completed",
        "hiding",
        "result",
        "tell",
    )

    def __init__(self, row: Any, claim: Claim | None, database: Database, limit: int, shared: Values) -> None:
        """`claim` is None in a child process, which is never asked to stop but killed. There the caller must set two
        attributes: `hiding`, which removes secrets, and `tell`, a function that informs the worker that the handler's own
        transaction is ending the job. `limit` is the maximum number of bytes of a result, and `shared` has the
        values of the worker lifespans."""
        self._row, self._claim, self._database, self._limit, self._shared = row, claim, database, limit, shared
        self._reported = 0.0
        self._open = False
        self.hiding: Hiding | None = None
        self.tell: Callable[[bool], None] | None = None
        self.result: Any = None
        self.completed = False
        self._stored: str | None = None

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

    def lifespan(self, of: WorkerLifespan[T]) -> T:
        return value_of(self._shared, of)

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
                await PROGRESS.execute(connection, **values, id=self._row["id"], fence=self._row["fence"])
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # progress is best effort: a database that is away or refuses it must not fail the handler

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[AsyncSession]":
        if self.completed:
            raise InvalidOption("transaction", "this attempt has already completed its job in a transaction")
        if self._open:
            raise InvalidOption(
                "transaction",
                "is already open in this attempt, and its end ends the job: use the session of the open block, and "
                "`session.begin_nested()` for a part that may fail",
            )
        before, self._open = self.result, True
        try:
            async with self._completing() as transaction:
                yield transaction.session
        except BaseException:
            self._completes(False)
            self.result = before  # what the block has set goes with what it has written
            raise
        finally:
            self._open = False
        self.completed = True

    def too_late(self, what: Any) -> str | None:
        """Called when the handler raised or returned `what` after its `transaction` had ended the job. If `what` therefore
        has no effect, returns a message that says what to do instead. Otherwise returns None. Never raises."""
        kind = type(what)  # never by `isinstance`, which asks the object
        if issubclass(kind, Outcome):
            return f"it asked for {class_name(what)}: raise that inside the block, where it rolls the block back"
        if issubclass(kind, BaseException):
            return f"it failed with {in_words(what, 500)}: raise that inside the block to roll the block back"
        value = self.result if what is None else what
        if value is None or self._is_stored(value):
            return None
        said = "set ctx.result after the block" if what is None else "returned a value that is not the job's result"
        return f"it {said}: set ctx.result before the block ends"

    def _is_stored(self, value: Any) -> bool:
        try:
            return encode_result(value, self._limit) == self._stored
        except BaseException:
            return False

    def _completes(self, yes: bool) -> None:
        """Record that the commit which ends the job is about to be sent (`yes` is True), or that this transaction has failed
        (`yes` is False). From the commit on, a heartbeat may find that the job's row is gone, although the claim is not
        lost."""
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
                with transaction.explained():
                    await transaction.session.flush()
            with transaction.explained():
                await self._database.limit(transaction)
            row = self._row
            result = self._stored = encode_result(self.result, self._limit)
            hiding = self._hiding()
            if hiding is not None and result is not None:
                result = hiding.json(result)
            async with transaction.by_index():
                rows = await FINISH.fetch(
                    transaction.connection,
                    ids=[row["id"]],
                    fences=[row["fence"]],
                    results=[result],
                    bounds=BOUNDS,
                )
            if not rows:
                raise StaleClaim(self.job_id, row["fence"])
            ended = {**dict(row), "attempt": self.attempt, "state": "succeeded", "result": result, "error": None}
            try:
                await run_hooks(transaction, ended, self._context_of_hooks())
            except HookFailed as failure:
                log_failure(failure, ATTEMPT_FAILS)
                raise
            self._completes(True)

    def _context_of_hooks(self) -> Context:
        """Returns an empty context for hooks, in which a hook's log lines, connections and tasks belong to this attempt."""
        context = Context()
        context.run(running.set, self._claim)
        return context


class ThreadContext:
    """The context of a plain function in a thread; see `carafe.jobs.context.SyncContext`."""

    __slots__ = ("_context", "_loop", "_report")

    def __init__(
        self, context: AttemptContext, report: Callable[[float, str], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """`loop` is the worker's event loop, to which the connections of `context` belong."""
        self._context, self._report, self._loop = context, report, loop

    @property
    def result(self) -> Any:
        return self._context.result

    @result.setter
    def result(self, value: Any) -> None:
        self._context.result = value

    @contextmanager
    def transaction(self) -> "Iterator[Session]":
        with borrowed_loop.block(self._context.transaction(), self._loop) as session:
            yield session.sync_session

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

    def lifespan(self, of: WorkerLifespan[T]) -> T:
        return self._context.lifespan(of)

    def progress(self, fraction: float, note: str = "") -> None:
        progress_values(fraction, note)
        self._report(fraction, note)
