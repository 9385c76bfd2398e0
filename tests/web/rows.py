"""What the tests read from the tables, and how they move jobs without a worker: its statements, and the hooks with them."""

from typing import Any
from uuid import UUID, uuid4

from carafe.store.database import Database
from carafe.store.statements import CLAIM, FINISH, SETTLE
from carafe.store.transitions import run_hooks
from carafe.telemetry.metrics import BOUNDS

WORKER = uuid4()
"""Who claims them."""


async def count(database: Database, table: str) -> int:
    """Rows of a table."""
    async with database.connection() as connection:
        found: int = await connection.fetchval(f"select count(*) from {table}")
    return found


async def claim(database: Database, job_id: UUID | str, kind: str) -> Any:
    """Run the job, as far as its row and its hooks go. Returns the claimed row."""
    async with database.hooked() as transaction:
        row = (await CLAIM.fetch(transaction.connection, worker=WORKER, ids=[UUID(str(job_id))], kinds=[kind]))[0]
        await run_hooks(transaction, {**dict(row), "state": "running", "result": None, "error": None})
    return row


async def succeed(database: Database, row: Any, result: str) -> None:
    """End a claimed job with `result` (JSON)."""
    async with database.hooked() as transaction:
        assert await FINISH.fetch(
            transaction.connection,
            ids=[row["id"]],
            fences=[row["fence"]],
            results=[result],
            bounds=BOUNDS,
        )
        await run_hooks(transaction, {**dict(row), "state": "succeeded", "result": result, "error": None})


async def fail(database: Database, row: Any, error: str, *, final: bool) -> None:
    """Fail a claimed job: dead when `final`, else to be retried in an hour."""
    async with database.hooked() as transaction:
        for moved in await SETTLE.fetch(
            transaction.connection,
            ids=[row["id"]],
            fences=[row["fence"]],
            causes=["error"],
            error_classes=["WebhookFailed"],
            errors=[error],
            tracebacks=["Traceback"],
            fingerprints=["fingerprint"],
            delays=[3600.0],
            states=["dead" if final else "retrying"],
            spends=["attempt"],
            traces=[None],
            worker=WORKER,
            worker_name="by hand",
            bounds=BOUNDS,
        ):
            await run_hooks(transaction, moved)
