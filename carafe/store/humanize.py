"""Words for people, as every reader gets them (HTTP API, command line and pages): numbers and times as text for sentences,
and what became of an attempt."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from carafe.durations import in_words
from carafe.jobs.records import INTERRUPTED, JobRecord
from carafe.jobs.states import State

WORKER_LOST = "its worker was lost"
"""What is said of a job that may have been running on a worker that died or fell silent."""


def attempt_number(job: JobRecord) -> int:
    """The number of the attempt that a job is at, from 1: of the one that runs or, if none runs, of the last one that was
    spent (0: none was). `JobRecord.attempt` counts those that were spent."""
    return job.attempt + (job.state is State.RUNNING)


def attempt_summary(row: Mapping[str, Any]) -> str:
    """What became of an attempt, from its row in ``carafe.attempts``: ``attempt 1 failed after 3 s: LookupError``.

    If a worker was lost, nobody knows whether the attempt had begun, so the text does not say that it had.
    """
    match row["cause"]:
        case "worker lost":
            return f"{WORKER_LOST}, and attempt {row['attempt']} is spent"
        case cause if cause == INTERRUPTED:
            return f"{WORKER_LOST}, and no attempt is spent"
    took = "" if row["started_at"] is None else f" after {in_words((row['ended_at'] - row['started_at']).total_seconds())}"
    return f"attempt {row['attempt']} failed{took}: {row['error_class'] or row['cause']}"


def clock(moment: datetime, now: datetime) -> str:
    """A time as text: ``14:02:09``, or with its date if that is not the date of `now`."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def number(value: int, estimated: bool = False) -> str:
    """A number as text: ``12,500`` or, if it is estimated, ``about 12,500``."""
    return f"about {value:,}" if estimated else f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 job``, ``2 jobs``. `many` is the plural if it is not `one` with an s."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
