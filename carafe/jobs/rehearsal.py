"""A worker's life in Postgres, rehearsed: its statements are run as its user in a transaction that is rolled back.

Guarantees: nothing of it is ever seen or kept; it waits for no lock longer than a second, and after one that it has not got
tries nothing more; else every statement is tried, whatever the others say.
Must never: touch a row that is not its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from carafe.jobs import statements
from carafe.jobs.hints import QUEUE
from carafe.jobs.identifiers import uuid7
from carafe.jobs.statements import (
    CLAIM,
    ENQUEUE,
    FAIL,
    FINISH,
    PAUSED,
    PROGRESS,
    RELEASE,
    SNOOZE,
    WORKER_BEAT,
    WORKER_START,
    WORKER_STOP,
    Statement,
)
from carafe.jobs.statistics import BOUNDS

KIND = "carafe.rehearsal"
"""The kind and the name of everything in it: seen by nobody."""

HELD_UP = (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
"""Another transaction, or the server's load, holds a statement up: the next would wait as long."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A statement that Postgres refuses, by its name, and why. `error` None: it found nothing where it should have."""

    statement: str
    error: asyncpg.PostgresError | None

    @property
    def reason(self) -> str:
        """In Postgres's words, or ours."""
        return str(self.error) if self.error is not None else "it does not see a row that was just written"


class _Rehearsal:
    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.refusals: list[Refusal] = []

    async def run(
        self, statement: Statement, values: Mapping[str, Any], *, finds: bool = True, keep: bool = False
    ) -> list[Any]:
        """Run one. `finds`: it must return rows; `keep`: for what follows."""
        if any(isinstance(refusal.error, HELD_UP) for refusal in self.refusals):
            return []
        point = self._connection.transaction()
        await point.start()
        try:
            found = list(await self._connection.fetch(statement.positional, *statement.arguments(**values)))
        except asyncpg.PostgresError as error:
            await point.rollback()
            self.refusals.append(Refusal(statement.name, error))
            return []
        await (point.commit() if keep else point.rollback())
        if finds and not found:
            self.refusals.append(Refusal(statement.name, None))
        return found


async def rehearse(connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[int, list[Refusal]]:
    """Try every statement of this version, on a connection of its own. Returns how many there are, and what is refused.

    Raises what a lost connection raises.
    """
    every = [value for value in vars(statements).values() if isinstance(value, Statement)]
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
    """Whether it fits the schema and this user's rights, without running it: EXPLAIN looks at both."""
    try:
        await connection.fetch(f"explain {statement.positional}", *[None] * len(statement.parameters))
    except asyncpg.PostgresError as error:
        return Refusal(statement.name, error)
    return None


async def _live(rehearsal: _Rehearsal) -> None:
    """A worker comes, a job comes, is claimed, and ends in every way."""
    worker, job = uuid7(), uuid7()
    come = {"id": worker, "name": KIND, "host": KIND, "pid": 0, "incarnation": f"{KIND}:{worker}", "pod": ""}
    await rehearsal.run(WORKER_START, come | {"version": KIND, "kinds": [KIND], "concurrency": 1}, finds=False, keep=True)
    row = {"id": str(job), "kind": KIND, "args": {}, "secrets": [], "version": 1, "max_attempts": 2, "timeout": 60.0}
    await rehearsal.run(ENQUEUE, {"rows": orjson.dumps([row]).decode()}, keep=True)
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
    for state in ("succeeded", "cancelled"):
        await rehearsal.run(FINISH, held | {"results": [None], "state": state, "reason": None, "bounds": BOUNDS})
    for final in (False, True):
        failure: dict[str, Any] = held | {
            "causes": ["error"],
            "error_classes": [KIND],
            "errors": [KIND],
            "tracebacks": [None],
        }
        failure |= {"fingerprints": [KIND], "delays": [1.0], "finals": [final], "traces": [None]}
        await rehearsal.run(FAIL, failure | {"worker": worker, "worker_name": KIND, "bounds": BOUNDS})
    await rehearsal.run(SNOOZE, held | {"delays": [1.0], "traces": [None]})
    await rehearsal.run(RELEASE, held | {"traces": [None], "counts": True, "worker": worker})
    await rehearsal.run(WORKER_STOP, {"id": worker}, finds=False)
