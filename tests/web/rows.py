"""What the tests read from the tables, and how they move jobs without a worker: its statements, and the hooks with them."""

from typing import Any
from uuid import UUID, uuid4

from carafe.database import Database
from carafe.jobs.moves import run_hooks
from carafe.jobs.statements import CLAIM, FAIL, FINISH
from carafe.jobs.statistics import BOUNDS


async def count(database: Database, table: str) -> int:
    """Rows of a table."""
    async with database.connection() as connection:
        found: int = await connection.fetchval(f"select count(*) from {table}")
    return found


async def claim(database: Database, job_id: UUID | str, kind: str) -> Any:
    """Run the job, as far as its row and its hooks go. Returns the claimed row."""
    async with database.hooked() as transaction:
        arguments = CLAIM.arguments(worker=uuid4(), ids=[UUID(str(job_id))], kinds=[kind])
        row = (await transaction.connection.fetch(CLAIM.positional, *arguments))[0]
        await run_hooks(transaction, {**dict(row), "state": "running", "result": None, "error": None})
    return row


async def succeed(database: Database, row: Any, result: str) -> None:
    """End a claimed job with `result` (JSON)."""
    async with database.hooked() as transaction:
        arguments = FINISH.arguments(
            ids=[row["id"]], fences=[row["fence"]], results=[result], state="succeeded", reason=None, bounds=BOUNDS
        )
        assert await transaction.connection.fetch(FINISH.positional, *arguments)
        await run_hooks(transaction, {**dict(row), "state": "succeeded", "result": result, "error": None})


async def fail(database: Database, row: Any, error: str, *, final: bool) -> None:
    """Fail a claimed job: dead when `final`, else to be retried in an hour."""
    async with database.hooked() as transaction:
        arguments = FAIL.arguments(
            ids=[row["id"]],
            fences=[row["fence"]],
            causes=["error"],
            error_classes=["WebhookFailed"],
            errors=[error],
            tracebacks=["Traceback"],
            fingerprints=["fingerprint"],
            delays=[3600.0],
            finals=[final],
            traces=[None],
            worker=uuid4(),
            worker_name="by hand",
            bounds=BOUNDS,
        )
        for moved in await transaction.connection.fetch(FAIL.positional, *arguments):
            await run_hooks(transaction, moved)
