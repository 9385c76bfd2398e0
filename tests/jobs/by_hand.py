"""A worker by hand: claims and ends jobs through the ledger, so that a test decides what happens when."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from carafe.engine.claim import Claim
from carafe.engine.completions import Cancelled, Failed, Released, Snoozed, Succeeded
from carafe.engine.ledger import Hinted, Ledger
from carafe.jobs.definition import kinds
from carafe.jobs.identifiers import uuid7
from carafe.store.database import Database
from carafe.store.statement import Statement


class ByHand:
    """One worker; `id` is what the rows say. It knows every kind of this process."""

    def __init__(self, database: Database, name: str = "by hand") -> None:
        self.database = database
        self.id = uuid7()
        self.ledger = Ledger(database, self.id, name, sorted(kinds()))

    async def claim(self, *ids: UUID) -> list[Claim]:
        """Claim these jobs, as if their hints had come."""
        async with self.database.connection() as connection:
            found = await connection.fetch("select id, kind from carafe.jobs where id = any($1::uuid[])", list(ids))
        kinds_of = {row["id"]: row["kind"] for row in found}
        rows, bad = await self.ledger.claim([Hinted(job, kinds_of.get(job, "tests.greet"), b"") for job in ids])
        assert not bad
        return [Claim(row, b"", time.monotonic()) for row in rows]

    async def succeed(self, claim: Claim, result: str | None = None) -> None:
        await self.ledger.write([Succeeded(claim, 0.1, result)])

    async def fail(
        self,
        claim: Claim,
        *,
        delay: float = 60.0,
        final: bool = False,
        error: str = "it failed",
        error_class: str = "ValueError",
    ) -> None:
        await self.ledger.write([Failed(claim, 0.1, "error", error_class, error, "trace", delay, final)])

    async def snooze(self, claim: Claim, delay: float = 60.0) -> None:
        await self.ledger.write([Snoozed(claim, 0.1, delay)])

    async def release(self, claim: Claim, *, started: bool = True) -> None:
        await self.ledger.write([Released(claim, 0.1, started)])

    async def cancel(self, claim: Claim) -> None:
        await self.ledger.write([Cancelled(claim, 0.1, "cancelled by an operator")])


async def run(database: Database, statement: Statement, **values: Any) -> Sequence[Mapping[str, Any]]:
    """Execute one of the system's statements."""
    async with database.connection() as connection:
        rows: Sequence[Mapping[str, Any]] = await statement.fetch(connection, **values)
    return rows


async def row_of(database: Database, job_id: UUID) -> dict[str, Any]:
    """The job's row as it stands, live or ended."""
    async with database.connection() as connection:
        for table in ("jobs", "jobs_ended"):
            row = await connection.fetchrow(f"select * from carafe.{table} where id = $1", job_id)
            if row is not None:
                return dict(row)
    raise AssertionError(f"no job {job_id}")


async def count(database: Database, table: str = "jobs") -> int:
    """Rows of a table of the schema ``carafe``."""
    async with database.connection() as connection:
        number: int = await connection.fetchval(f"select count(*) from carafe.{table}")
    return number


async def make_due(database: Database, job_id: UUID) -> None:
    """Let a waiting job's time come, without waiting for it."""
    async with database.connection() as connection:
        await connection.execute("update carafe.jobs set due_at = now() - interval '1 second' where id = $1", job_id)
