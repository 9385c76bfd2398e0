"""Reads one job: its row and its failed attempts. From both it makes the record that the client, the API and the pages
use."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from carafe.jobs.records import INTERRUPTED, AttemptRecord, JobRecord, job_record
from carafe.store.database import Connection
from carafe.store.humanize import attempt_summary
from carafe.store.statements import ATTEMPTS, GET


class Found(NamedTuple):
    """The record of a job, and the row of the statement `GET` from which it was made. The row has more columns."""

    row: Mapping[str, Any]
    record: JobRecord


async def find_job(connection: Connection, job_id: UUID) -> Found | None:
    """The job with this id, or None. It comes with its newest 200 failed attempts, which have at most some 500,000
    characters of errors and tracebacks in all.

    Raises the database's errors.
    """
    row = await GET.fetchrow(connection, id=job_id)
    return None if row is None else await found_in(connection, row)


async def found_in(connection: Connection, row: Mapping[str, Any]) -> Found:
    """The job in `row`, a row with all columns of a record. Reads the job's failed attempts as `find_job` does."""
    failed = await ATTEMPTS.fetch(connection, job_id=row["id"])
    attempts = tuple(map(_attempt, failed))
    cut = ("attempts",) if any(found["cut"] for found in failed) else ()
    of_last: dict[str, Any] = {}
    spent = [attempt for attempt in attempts if attempt.cause != INTERRUPTED]
    if row["ended_at"] is None and row["attempt"] > 0 and spent:
        of_last = {"error_class": spent[-1].error_class, "error": spent[-1].error}
    return Found(row, job_record(row, attempts, cut, **of_last))


def _attempt(row: Mapping[str, Any]) -> AttemptRecord:
    return AttemptRecord(
        attempt=row["attempt"],
        cause=row["cause"],
        error_class=row["error_class"],
        error=row["error"],
        traceback=row["traceback"],
        worker=row["worker_name"] or (str(row["worker"]) if row["worker"] else None),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        summary=attempt_summary(row),
    )
