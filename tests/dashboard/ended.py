"""Jobs for the tests of the pages: one with arguments of every sort, and one that has died."""

from typing import Any
from uuid import UUID, uuid4

from carafe.database import Database
from carafe.jobs import Client, Job
from carafe.jobs.statements import FAIL
from carafe.jobs.statistics import BOUNDS
from tests.dashboard.kinds_of_pages import Every
from tests.web.rows import claim


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
        arguments = FAIL.arguments(
            ids=[row["id"]],
            fences=[row["fence"]],
            causes=["error"],
            error_classes=[kind],
            errors=[error],
            tracebacks=[f"Traceback of {error}"],
            fingerprints=[fingerprint],
            delays=[0.0],
            finals=[True],
            traces=[None],
            worker=uuid4(),
            worker_name="by hand",
            bounds=BOUNDS,
        )
        assert await transaction.connection.fetch(FAIL.positional, *arguments)
