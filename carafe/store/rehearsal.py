"""Rehearses a worker's SQL statements: runs them as the worker's user, in a transaction that is rolled back.

Guarantees: nothing that the rehearsal writes is ever visible or kept. It waits at most a second for a lock, and stops when
it does not get the lock. First every statement is checked without being run, even if others fail that check. Must never:
touch a row that is not its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import asyncpg

from carafe.jobs.identifiers import uuid7
from carafe.jobs.queue_name import QUEUE
from carafe.store import statements
from carafe.store.actions import STATEMENTS
from carafe.store.enqueueing import sample
from carafe.store.statement import Statement
from carafe.store.statements import (
    CLAIM,
    ENQUEUE,
    FINISH,
    PAUSED,
    PROGRESS,
    SETTLE,
    WORKER_BEAT,
    WORKER_START,
    WORKER_STOP,
)
from carafe.telemetry.metrics import BOUNDS

KIND = "carafe.rehearsal"
"""The kind of the rehearsal's job, and the name of its worker. Nobody ever sees them."""

HELD_UP = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
"""Errors which say that another transaction or the server's load holds up statements. After such an error the rehearsal
stops, since the next statement would wait as long."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A statement that failed in the rehearsal: its name, and Postgres's error. `error` is None if the statement raised no
    error, but did not return the row that it should have returned."""

    statement: str
    error: asyncpg.PostgresError | None

    @property
    def reason(self) -> str:
        """Why the statement failed, in the words of Postgres or, if Postgres raised no error, in Carafe's."""
        return str(self.error) if self.error is not None else "it does not see a row that was just written"


class _Rehearsal:
    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.refusals: list[Refusal] = []

    async def run(
        self, statement: Statement, values: Mapping[str, Any], *, finds: bool = True, keep: bool = False
    ) -> list[Any]:
        """Run one statement. If it fails, add a `Refusal`. `finds`: whether it must return rows. `keep`: whether later
        statements see its effect."""
        if any(isinstance(refusal.error, HELD_UP) for refusal in self.refusals):
            return []
        point = self._connection.transaction()
        await point.start()
        try:
            found = list(await statement.fetch(self._connection, **values))
        except asyncpg.PostgresError as error:
            await point.rollback()
            self.refusals.append(Refusal(statement.name, error))
            return []
        await (point.commit() if keep else point.rollback())
        if finds and not found:
            self.refusals.append(Refusal(statement.name, None))
        return found


async def rehearse(connection: "asyncpg.Connection[asyncpg.Record]", *others: ModuleType) -> tuple[int, list[Refusal]]:
    """Check every statement of the store and of the modules `others` (other folders have statements of their own), then run
    those of a worker. `connection` must be used for nothing else. Returns the number of statements, and the refusals.

    Raises the driver's error when the connection is lost.
    """
    values = [value for module in (statements, *others) for value in vars(module).values()]
    every = [value for value in values if isinstance(value, Statement)] + list(STATEMENTS.values())
    refusals = [refusal for statement in every if (refusal := await _explained(connection, statement)) is not None]
    if refusals:
        return len(every), refusals
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local lock_timeout = '1s'; set local statement_timeout = '5s'")
        rehearsal = _Rehearsal(connection)
        await _live(rehearsal)
        return len(every), rehearsal.refusals
    finally:
        await transaction.rollback()


async def _explained(connection: "asyncpg.Connection[asyncpg.Record]", statement: Statement) -> Refusal | None:
    """Use EXPLAIN to check that a statement fits the schema and this user's rights, without running it. Returns the refusal,
    or None if there is none."""
    try:
        await connection.fetch(f"explain {statement.numbered}", *[None] * len(statement.parameters))
    except asyncpg.PostgresError as error:
        return Refusal(statement.name, error)
    return None


async def _live(rehearsal: _Rehearsal) -> None:
    """Run the statements of a worker's life: register a worker, enqueue a job, claim it, and end it in every possible
    way."""
    worker = uuid7()
    come = {"id": worker, "name": KIND, "host": KIND, "pid": 0, "incarnation": f"{KIND}:{worker}", "pod": ""}
    await rehearsal.run(
        WORKER_START, come | {"version": KIND, "kinds": [KIND], "versions": [1], "concurrency": 1}, finds=False, keep=True
    )
    job, row = sample(KIND)
    await rehearsal.run(ENQUEUE, {"rows": f"[{row}]"}, keep=True)
    paused = await rehearsal.run(PAUSED, {}, finds=False)
    if rehearsal.refusals or any(queue["name"] == QUEUE for queue in paused):
        return  # of a paused queue nothing is claimed
    claimed = await rehearsal.run(CLAIM, {"worker": worker, "ids": [job], "kinds": [KIND]}, keep=True)
    if not claimed:
        return
    fence = claimed[0]["fence"]
    held = {"ids": [job], "fences": [fence]}
    await rehearsal.run(WORKER_BEAT, held | {"id": worker, "state": "running", "settled": 1})
    await rehearsal.run(PROGRESS, {"id": job, "fence": fence, "fraction": 0.5, "note": KIND}, finds=False)
    await rehearsal.run(FINISH, held | {"results": [None], "bounds": BOUNDS})
    told: dict[str, Any] = {"worker": worker, "worker_name": KIND, "bounds": BOUNDS, "traces": [None], "delays": [1.0]}
    failure = {"causes": ["error"], "error_classes": [KIND], "errors": [KIND], "tracebacks": [None], "fingerprints": [KIND]}
    no_failure = {key: [None] for key in failure}
    for state, spends, why in (
        ("retrying", "attempt", failure),
        ("dead", "attempt", failure),
        ("cancelled", "attempt", no_failure),
        ("scheduled", "snooze", no_failure),
        ("queued", "release", no_failure),
    ):
        await rehearsal.run(SETTLE, held | told | why | {"states": [state], "spends": [spends]})
    await rehearsal.run(WORKER_STOP, {"id": worker}, finds=False)
