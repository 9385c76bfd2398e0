"""`carafe jobs list --format`: every job that matches a filter, as JSON lines or CSV.

Guarantees: jobs are written as they are read, one page in memory at a time, however many there are. Each job that does not
change meanwhile comes exactly one time.
"""

import asyncio
import csv
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from carafe import JobFilter, JobRecord
from carafe.cli.connecting import connected
from carafe.cli.exits import Exit, Failure
from carafe.cli.jobs import say_none
from carafe.jobs.stored_json import written
from carafe.plain_text import one_line, visible

PAGE = 200
"""Jobs that are read at a time. Arguments and results of as many are in memory at once."""

COLUMNS = tuple(field.name for field in fields(JobRecord) if field.name not in ("cut", "note", "attempts"))
"""The columns of CSV: the fields that a list of jobs has."""

_SIGNS = r"[^\S\n]*[=+\-@＝＋－＠]"
"""How a formula begins on a line. A spreadsheet may remove white space before the sign, and reads a full-width sign like the
plain one."""

_FORMULA = re.compile(rf"(^|[\n;])({_SIGNS})")
"""A formula where a cell may begin. A program that separates cells at semicolons finds one also after a semicolon within
quotes."""

_SPLITS = re.compile(rf";({_SIGNS})")
"""A semicolon within JSON after which such a program would find a formula. JSON has another spelling for the semicolon."""


def export_jobs(wanted: JobFilter, form: Literal["jsonl", "csv"], *, limit: int | None, cursor: str | None) -> Exit:
    """Prints the jobs, newest first: at most `limit`, or all if it is None. Raises `Failure` for a limit below 1."""
    if limit is not None and limit < 1:
        raise Failure(f"--limit must be at least 1 (got {limit})", Exit.USAGE)
    write = _json_lines() if form == "jsonl" else _csv()

    async def go() -> Exit:
        left, after, none = limit, cursor, True
        async with connected() as client:
            while left is None or left > 0:
                page = await client.find(wanted, limit=PAGE if left is None else min(PAGE, left), cursor=after)
                for job in page.jobs:
                    write(job)
                    none = False
                if left is not None:
                    left -= len(page.jobs)
                after = page.next_cursor
                if after is None:
                    break
        if none:
            say_none(wanted)
        return Exit.OK

    return asyncio.run(go())


def _json_lines() -> Callable[[JobRecord], object]:
    return lambda job: print(visible(written(job).decode()))


def _csv() -> Callable[[JobRecord], object]:
    table = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(COLUMNS)
    return lambda job: table.writerow([_cell(getattr(job, name)) for name in COLUMNS])


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str() | UUID():
            return _harmless(str(value))
        case int() | float():
            return str(value)
    return _SPLITS.sub(r"\\u003b\1", visible(written(value).decode()))


def _harmless(text: str) -> str:
    """The text without characters that control a terminal, and with an apostrophe before everything that a spreadsheet would
    take for a formula: at the start, after a line break, and after a semicolon."""
    return _FORMULA.sub(r"\1'\2", "\n".join(one_line(line) for line in text.split("\n")))
