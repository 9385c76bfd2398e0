"""Where a running job is: a question in ``carafe.stacks``, which the job's worker answers with its next heartbeat.

Guarantees: an answer is of the claim that was asked about. It has files, line numbers and functions, and no values.
"""

from typing import Any
from uuid import UUID

from carafe.jobs.errors import JobNotFound, NotAllowedInState
from carafe.jobs.records import StackRecord
from carafe.store.database import Connection
from carafe.store.statements import ATTEMPTS, GET, STACK_READ, STACK_REQUEST


async def ask(connection: Connection, job_id: UUID) -> StackRecord:
    """Ask the worker of a running job where that is. Raises `JobNotFound`, `NotAllowedInState` (the job does not run), and
    the database's errors."""
    row = await STACK_REQUEST.fetchrow(connection, id=job_id)
    if row is not None:
        return _record(row)
    found = await GET.fetchrow(connection, id=job_id)
    if found is None:
        raise JobNotFound(job_id)
    why = "only a running job has a stack"
    failed = await ATTEMPTS.fetch(connection, job_id=job_id)
    if found["ended_at"] is None and failed and failed[-1]["error_class"] == "WorkerLost":
        worker = failed[-1]["worker_name"] or failed[-1]["worker"]
        why += f"; its worker {worker} was lost at {failed[-1]['ended_at']:%H:%M:%S} UTC"
    raise NotAllowedInState(f"asked where it is ({why})", job_id, found["state"])


async def read(connection: Connection, job_id: UUID) -> StackRecord | None:
    """The last question about a job, with its answer; None if nobody has asked lately. Raises the database's errors."""
    row = await STACK_READ.fetchrow(connection, id=job_id)
    return None if row is None else _record(row)


def _record(row: Any) -> StackRecord:
    lines = None if row["lines"] is None else tuple(line or "" for line in row["lines"])
    return StackRecord(
        UUID(str(row["job_id"])),
        row["fence"],
        row["requested_at"],
        row["answered_at"],
        lines,
        row["worker_name"],
        row["heartbeat_age"],
    )
