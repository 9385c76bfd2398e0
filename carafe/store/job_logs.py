"""Stores and reads what a job's handler logged: the last lines of each claim (one run of the job). A row holds a chunk: the
lines that one claim logged between two flushes.

Guarantees: lines of different claims of a job are never mixed. Lines that were written twice are read only once. A reader
gets the last lines of a claim, at most `MAX_LINES` and `MAX_BYTES`, and only those of the last `MAX_CLAIMS` claims.
Must never: interpret a line. Its text is exactly what the handler logged, markup included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from uuid import UUID

from carafe.store.statements import FORGET_LOGS, READ_LOGS, WRITE_LOGS

if TYPE_CHECKING:
    from carafe.store.database import Connection

MAX_LINES = 200
MAX_BYTES = 64 << 10
"""The maximum number of lines (`MAX_LINES`), and of bytes in UTF-8 (`MAX_BYTES`), that are kept of one claim. The last lines
are kept."""

MAX_CLAIMS = 20
"""The maximum number of claims of one job whose lines are read: the last claims. There may be many more, since a job may
snooze a thousand times."""

_CHUNKS = MAX_CLAIMS * 100

_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)

_LONGEST = timedelta(days=3)
"""When the oldest stored lines of a claim have to be deleted: how far back in time these lines are searched. Still older
lines stay until they are pruned, and readers leave them out."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a job's handler logged. `number` counts from 1 within one claim, which `fence` identifies. `at` is a time
    by the worker's clock, `level` is as in the log (``info``), and `text` may have line breaks (a traceback)."""

    fence: int
    attempt: int
    number: int
    at: datetime
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of one claim to be stored, at least one. `failed`: whether the lines have the retention of dead jobs.

    `kept_from` is the number of the first line of the claim that is kept: stored lines before that one are deleted. If it is
    None, no stored line has to be deleted.
    """

    job_id: UUID
    fence: int
    attempt: int
    failed: bool
    lines: Sequence[tuple[int, datetime, str, str]]
    """The lines, each as (number, time, level, text)."""
    kept_from: int | None = None


async def write(connection: "Connection", chunks: Sequence[Chunk]) -> None:
    """Store chunks in one SQL statement, and delete the older lines that are no longer kept in a second one.

    Raises the database's errors. The call may be repeated with the same chunks: that does no harm.
    """
    lines = [(index, *line) for index, chunk in enumerate(chunks, 1) for line in chunk.lines]
    await WRITE_LOGS.execute(
        connection,
        ids=[chunk.job_id for chunk in chunks],
        fences=[chunk.fence for chunk in chunks],
        attempts=[chunk.attempt for chunk in chunks],
        faileds=[chunk.failed for chunk in chunks],
        chunks=[line[0] for line in lines],
        numbers=[line[1] for line in lines],
        times=[line[2] for line in lines],
        levels=[line[3] for line in lines],
        texts=[line[4] for line in lines],
    )
    pushed_out = [chunk for chunk in chunks if chunk.kept_from is not None]
    if pushed_out:
        since = min(chunk.lines[0][1] for chunk in pushed_out) - _LONGEST
        await FORGET_LOGS.execute(
            connection,
            ids=[chunk.job_id for chunk in pushed_out],
            fences=[chunk.fence for chunk in pushed_out],
            kept_from=[chunk.kept_from for chunk in pushed_out],
            since=since,
        )


async def read(connection: "Connection", job_id: UUID) -> list[LogLine]:
    """The lines that the job logged, oldest first, but only the last lines of each claim. Raises the database's errors."""
    rows = await READ_LOGS.fetch(connection, id=job_id, limit=_CHUNKS)
    claims: dict[int, dict[int, LogLine]] = {}
    for row in rows:
        if row["fence"] not in claims and len(claims) == MAX_CLAIMS:
            break
        lines = claims.setdefault(row["fence"], {})
        for line in _lines(row):
            lines[line.number] = line
    found: list[LogLine] = []
    for fence in sorted(claims):
        found += _last([claims[fence][number] for number in sorted(claims[fence])])
    return found


def were_cut(lines: Iterable[LogLine]) -> bool:
    """Whether a claim logged more lines than there are in `lines`, which `read` has returned."""
    firsts: dict[int, int] = {}
    for line in lines:
        firsts[line.fence] = min(line.number, firsts.get(line.fence, line.number))
    return any(first > 1 for first in firsts.values())


def _lines(row: Any) -> Iterable[LogLine]:
    fence, attempt = row["fence"], row["attempt"]
    for number, (at, level, text) in enumerate(zip_longest(row["times"], row["levels"], row["texts"]), row["first"]):
        if text is not None:
            yield LogLine(fence, attempt, number, at or _UNKNOWN, level or "info", text)


def _last(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    """The last of these lines, which are those of one claim: as many as `MAX_LINES` and `MAX_BYTES` allow."""
    size = 0
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index].text.encode())
        if size > MAX_BYTES or len(lines) - index > MAX_LINES:
            return lines[index + 1 :]
    return lines
