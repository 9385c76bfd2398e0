"""Pages of lists of jobs. A page has live and ended jobs together, newest first, and the cursor of the next page.

Guarantees: a caller that follows the cursors sees each job exactly once, unless the job changes meanwhile. A page takes no
longer than the time that it is given: if there is no index for the filter, only the newest rows are checked, and the page
says how far back.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.jobs.numbers import is_whole
from carafe.jobs.records import Count, JobRecord, Page, as_uuid, job_record
from carafe.jobs.states import State
from carafe.store.bounded_scan import fetched, windows
from carafe.store.cursors import Position, no_cursor, read_cursor, read_position, write_cursor, write_position
from carafe.store.database import Connection
from carafe.store.error_classes import whole_class
from carafe.store.filters import SIDES, JobFilter, Side
from carafe.store.job_columns import FIRST_LINE
from carafe.store.keyset import walk_of
from carafe.store.statements import LAST_ERRORS
from carafe.texts import shown as in_text

LONGEST = 500
"""The maximum number of jobs on a page."""

ERROR = 200
"""The maximum number of characters of an error in a row of a list."""

_WHOLE = 2**31 - 1
"""A number of characters that is greater than the length of any text. Used as the limit where texts are read whole."""

_AT_THE_END, _UNTOUCHED = "-", "."
"""The marks in a cursor for a table that has no more jobs (`_AT_THE_END`), and for a table in which the filter can match no
job (`_UNTOUCHED`)."""


@dataclass(slots=True)
class _Found:
    """What was found in one table: the rows, the position that was reached (None: the start of the table), and
    whether the table has no more matching rows."""

    rows: list[Mapping[str, Any]]
    reached: Position | None
    done: bool


async def page(
    connection: Connection,
    filter: JobFilter,  # noqa: A002
    live: Mapping[State, Count],
    *,
    cursor: str | None,
    limit: int,
    seconds: float,
    longest: int | None = None,
) -> Page:
    """One page of the jobs that match `filter`. `live` has the numbers of live jobs by state; it is only needed if
    `keyset.weighs` is true for the filter. `seconds` is the time for checking rows, for both tables together. For `longest`
    see `carafe.store.job_columns.shown`.

    Raises `InvalidOption`, and the database's errors.
    """
    if not (is_whole(limit) and 1 <= limit <= LONGEST):
        raise InvalidOption("limit", f"must be from 1 to {LONGEST} (got {in_text(limit)})")
    positions = dict.fromkeys(SIDES) if cursor is None else _read(cursor, filter)
    found = {}
    for number, side in enumerate(SIDES):
        if side in positions:
            deadline = time.monotonic() + seconds / (len(SIDES) - number)
            began = time.monotonic()
            found[side] = await _find(connection, filter, side, live, positions[side], limit, deadline, longest)
            seconds -= time.monotonic() - began
    shown, next_positions = _merge(found, positions, limit)
    ahead = [part.reached.moment for part in found.values() if not part.done and part.reached and len(part.rows) <= limit]
    errors = await _last_errors(connection, shown, longest)
    return Page(
        jobs=tuple(_job(row, errors, longest) for row in shown),
        next_cursor=_write(next_positions, filter) if next_positions else None,
        searched_to=max(ahead) if ahead and len(shown) < limit else None,
    )


async def _find(
    connection: Connection,
    filter: JobFilter,  # noqa: A002
    side: Side,
    live: Mapping[State, Count],
    after: Position | None,
    limit: int,
    deadline: float,
    longest: int | None,
) -> _Found:
    walk = walk_of(filter, side, live, whole_class=await whole_class(connection, filter, side))
    if walk is None:
        return _Found([], after, True)
    if walk.direct:
        query = walk.rows(after, None, limit + 1, longest=longest)
        rows = list(await connection.fetch(query.text, *query.values))
        return _Found(rows, after, len(rows) <= limit)
    rows = []
    async for window in windows(connection, walk, after, deadline):
        query = walk.rows(window.after, window.until, limit + 1 - len(rows), longest=longest)
        found = await fetched(connection, query, window.given_up)
        if found is None:
            return _Found(rows, window.after, False)
        rows += found
        after = window.until or window.after
        if len(rows) > limit or window.until is None:
            return _Found(rows, after, len(rows) <= limit)
    return _Found(rows, after, False)


def _merge(
    found: Mapping[Side, _Found], positions: Mapping[Side, Position | None], limit: int
) -> tuple[list[Mapping[str, Any]], dict[Side, Position | None]]:
    """The rows of one page, and the position that is reached in each table that has more rows."""
    taken = dict.fromkeys(found, 0)
    shown: list[Mapping[str, Any]] = []
    while len(shown) < limit:
        heads = {side: part.rows[taken[side]] for side, part in found.items() if taken[side] < len(part.rows)}
        if not heads:
            break
        side = max(heads, key=lambda side: heads[side]["created_at" if side == "live" else "ended_at"])
        shown.append(heads[side])
        taken[side] += 1
    onward: dict[Side, Position | None] = {}
    for side, part in found.items():
        if taken[side] < len(part.rows):
            last = part.rows[taken[side] - 1] if taken[side] else None
            onward[side] = positions[side] if last is None else Position(last["ended_at"], as_uuid(last["id"]))
        elif not part.done:
            onward[side] = part.reached
    return shown, onward


async def _last_errors(
    connection: Connection, rows: Sequence[Mapping[str, Any]], longest: int | None
) -> Mapping[UUID, Mapping[str, Any]]:
    """For each live job in `rows` that has failed before, by its id: its last error and the class of that error."""
    failed = [row["id"] for row in rows if row["ended_at"] is None and row["attempt"] > 0]
    if not failed:
        return {}
    characters = _WHOLE if longest is None else max(longest + 1, FIRST_LINE)
    found = await LAST_ERRORS.fetch(connection, ids=failed, longest=characters)
    return {as_uuid(row["job_id"]): row for row in found}


def _job(row: Mapping[str, Any], errors: Mapping[UUID, Mapping[str, Any]], longest: int | None) -> JobRecord:
    failure = errors.get(as_uuid(row["id"]), row)
    error = failure["error"]
    cut: tuple[str, ...] = ()
    if longest == 0:
        error, cut = first_line(error), ("result", "error") if row["args"] is not None else ("args", "result", "error")
    elif longest is not None and failure is not row and len(error) > longest:
        error, cut = error[: longest - 1] + "…", ("error",)
    return job_record(row, cut=cut, error_class=failure["error_class"], error=error)


def first_line(error: str | None) -> str | None:
    """The first line of `error` that is not blank, cut after `ERROR` characters. Returns None if `error` is None."""
    if error is None:
        return None
    line = next((line for line in error.splitlines() if line.strip()), "").strip()
    return line if len(line) <= ERROR else line[: ERROR - 1] + "…"


def cursor_behind(jobs: Sequence[JobRecord], filter: JobFilter, cursor: str | None) -> str:  # noqa: A002
    """The cursor that continues after these `jobs`, for a caller that shows only the first jobs of a page. `cursor` is the
    cursor of that page. Raises `InvalidOption` for a bad cursor."""
    positions = dict.fromkeys(SIDES) if cursor is None else _read(cursor, filter)
    for job in jobs:
        positions["live" if job.ended_at is None else "ended"] = Position(job.ended_at, job.id)
    return _write(positions, filter)


def _write(positions: Mapping[Side, Position | None], filter: JobFilter) -> str:  # noqa: A002
    parts = []
    for side in SIDES:
        position = positions.get(side)
        if not filter.touches(side):
            parts.append(_UNTOUCHED)
        elif side not in positions:
            parts.append(_AT_THE_END)
        else:
            parts.append("" if position is None else write_position(position))
    return write_cursor(parts)


def _read(cursor: str, filter: JobFilter) -> dict[Side, Position | None]:  # noqa: A002
    try:
        positions: dict[Side, Position | None] = {}
        for side, part in zip(SIDES, read_cursor(cursor), strict=True):
            if (part == _UNTOUCHED) == filter.touches(side):
                raise ValueError
            if part not in (_UNTOUCHED, _AT_THE_END):
                positions[side] = read_position(part, timed=side == "ended") if part else None
        if not positions:
            raise ValueError
    except (ValueError, OverflowError):
        raise no_cursor() from None
    return positions
