"""What a job's handler logged, as it is stored and read: the last lines of every claim, in chunks of what one claim logged
between two flushes.

Guarantees: a claim's lines are never mixed with those of another claim of the same job; what was written twice is read once;
a reader gets at most `MAX_LINES` lines and `MAX_BYTES` bytes a claim, its last, and only of the last `MAX_CLAIMS` claims.
Must never: interpret a line. Its text is whatever the handler said, markup included.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from carafe.jobs.moves import Connection
from carafe.jobs.statements import FORGET_LOGS, READ_LOGS, WRITE_LOGS

MAX_LINES = 200
MAX_BYTES = 64 << 10
"""What is kept of one claim: its last lines, and of those the last bytes (UTF-8)."""

MAX_CLAIMS = 20
"""Claims of one job that are read, the last ones: a job may snooze a thousand times."""

_CHUNKS = MAX_CLAIMS * 100

_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)

_LONGEST = timedelta(days=3)
"""How long a claim may have run whose stored lines are looked for to be forgotten; those of a longer one stay until they are
pruned, and readers leave them out."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a job's handler logged. `number` rises from 1 within one claim (`fence`); `at` is the worker's clock,
    `level` as in the log (``info``), `text` may hold line breaks (a traceback)."""

    fence: int
    attempt: int
    number: int
    at: datetime
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of one claim that go to the store, at least one. `failed`: kept as long as dead jobs are.

    `kept_from` is the number of the first line that is kept of the claim: stored ones before it are forgotten. None when
    nothing that is stored has to go.
    """

    job_id: UUID
    fence: int
    attempt: int
    failed: bool
    lines: Sequence[tuple[int, datetime, str, str]]
    """Number, time, level, text."""
    kept_from: int | None = None


async def write(connection: Connection, chunks: Sequence[Chunk]) -> None:
    """Store chunks, in one statement, and in another forget what they have pushed out.

    Raises what the database raises; repeating it is harmless.
    """
    lines = [(index, *line) for index, chunk in enumerate(chunks, 1) for line in chunk.lines]
    arguments = WRITE_LOGS.arguments(
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
    await connection.execute(WRITE_LOGS.positional, *arguments)
    pushed_out = [chunk for chunk in chunks if chunk.kept_from is not None]
    if pushed_out:
        since = min(chunk.lines[0][1] for chunk in pushed_out) - _LONGEST
        arguments = FORGET_LOGS.arguments(
            ids=[chunk.job_id for chunk in pushed_out],
            fences=[chunk.fence for chunk in pushed_out],
            belows=[chunk.kept_from for chunk in pushed_out],
            since=since,
        )
        await connection.execute(FORGET_LOGS.positional, *arguments)


async def read(connection: Connection, job_id: UUID) -> list[LogLine]:
    """What the job logged, oldest first: claim by claim, the last lines of each. Raises what the database raises."""
    rows = await connection.fetch(READ_LOGS.positional, *READ_LOGS.arguments(id=job_id, limit=_CHUNKS))
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
    """Whether a claim logged more than what `read` found of it."""
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
    """The last of one claim's lines, as many as are kept."""
    size = 0
    for index in range(len(lines) - 1, -1, -1):
        size += len(lines[index].text.encode())
        if size > MAX_BYTES or len(lines) - index > MAX_LINES:
            return lines[index + 1 :]
    return lines
