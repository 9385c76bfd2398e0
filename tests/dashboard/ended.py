"""Jobs for the tests of the pages: one with arguments of every sort, and one that has died."""

from typing import Any
from uuid import UUID

from carafe import Client, Job
from carafe.store.database import Database
from carafe.store.statements import SETTLE
from carafe.telemetry.metrics import BOUNDS
from tests.dashboard.kinds_of_pages import Every
from tests.web.rows import WORKER, claim


def every(**changes: Any) -> Every:
    """A job with arguments of every sort."""
    return Every(**({"text": "hello", "count": 3} | changes))


async def dead(client: Client, database: Database, job: Job, **how: str) -> UUID:
    """A job that has died, as `die` says."""
    enqueued = await client.enqueue(job)
    await die(database, await claim(database, enqueued.id, job.job_options.kind), **how)
    return enqueued.id


async def die(
    database: Database, row: Any, *, error: str = "it broke", kind: str = "Broken", fingerprint: str = "print"
) -> None:
    """Let a claimed job die of an error of that class and fingerprint."""
    async with database.hooked() as transaction:
        assert await SETTLE.fetch(
            transaction.connection,
            ids=[row["id"]],
            fences=[row["fence"]],
            causes=["error"],
            error_classes=[kind],
            errors=[error],
            tracebacks=[f"Traceback of {error}"],
            fingerprints=[fingerprint],
            delays=[0.0],
            states=["dead"],
            spends=["attempt"],
            traces=[None],
            worker=WORKER,
            worker_name="by hand",
            bounds=BOUNDS,
        )
