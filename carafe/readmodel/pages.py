"""Pages of jobs: two walks, one over live and one over ended jobs, merged newest first, and the cursor that leads on.

Guarantees that following the cursor shows each job that stays as it is exactly once, and that a page takes no longer than it
is given: a filter without an index is tried on the newest rows, and the page says how far that was.
"""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.jobs.filters import SIDES, JobFilter, Side
from carafe.jobs.moves import Connection
from carafe.jobs.records import Count, as_uuid
from carafe.jobs.states import State
from carafe.readmodel.records import JobRow, JobsPage
from carafe.readmodel.statements import LAST_ERRORS
from carafe.readmodel.walks import Position, walk_of
from carafe.readmodel.windows import fetched, windows
from carafe.timestamps import stored_micros, to_micros

LONGEST = 500
"""Jobs of a page."""

ERROR = 200
"""Characters of an error in a row."""

_AT_THE_END = "-"


@dataclass(slots=True)
class _Found:
    """What a walk has found: rows, how far it went (None: from the top), and whether that is all there is."""

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
) -> JobsPage:
    """One page. `live`: how many jobs of each live state there are; `seconds`: for trying rows, shared by both sides.

    Raises `InvalidOption`, and what the database raises.
    """
    if not 1 <= limit <= LONGEST:
        raise InvalidOption("limit", f"must be from 1 to {LONGEST} (got {limit})")
    positions = dict.fromkeys(SIDES) if cursor is None else _read(cursor)
    found = {}
    for number, side in enumerate(SIDES):
        if side in positions:
            deadline = time.monotonic() + seconds / (len(SIDES) - number)
            began = time.monotonic()
            found[side] = await _find(connection, filter, side, live, positions[side], limit, deadline)
            seconds -= time.monotonic() - began
    shown, next_positions = _merge(found, positions, limit)
    ahead = [part.reached.moment for part in found.values() if not part.done and part.reached and len(part.rows) <= limit]
    errors = await _last_errors(connection, shown)
    return JobsPage(
        jobs=tuple(_row(row, errors) for row in shown),
        next_cursor=_write(next_positions) if next_positions else None,
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
) -> _Found:
    walk = walk_of(filter, side, live)
    if walk is None:
        return _Found([], after, True)
    if walk.direct:
        query = walk.rows(after, None, limit + 1)
        rows = list(await connection.fetch(query.text, *query.values))
        return _Found(rows, after, len(rows) <= limit)
    rows = []
    async for window in windows(connection, walk, after, deadline):
        query = walk.rows(window.after, window.until, limit + 1 - len(rows))
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
    """The rows of one page, and the positions of those sides that have more."""
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


async def _last_errors(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> Mapping[UUID, Mapping[str, Any]]:
    """Of live jobs that have failed before: their last failure."""
    failed = [row["id"] for row in rows if row["ended_at"] is None and row["attempt"] > 0]
    if not failed:
        return {}
    found = await connection.fetch(LAST_ERRORS.positional, *LAST_ERRORS.arguments(ids=failed))
    return {as_uuid(row["job_id"]): row for row in found}


def _row(row: Mapping[str, Any], errors: Mapping[UUID, Mapping[str, Any]]) -> JobRow:
    job_id = as_uuid(row["id"])
    ended, started = row["ended_at"], row["started_at"]
    failure = errors.get(job_id, row)
    ran = ended is not None and started is not None and row["worker"] is not None
    return JobRow(
        id=job_id,
        kind=row["kind"],
        state=State.stored(row["state"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        started_at=started,
        ended_at=ended,
        duration=max(0.0, (ended - started).total_seconds()) if ran else None,
        progress=row["progress"],
        error_class=failure["error_class"],
        error=first_line(failure["error"]),
        worker=None if row["worker"] is None else as_uuid(row["worker"]),
        resolved=row["resolved"],
        cancel_requested=row["cancel_requested"],
    )


def first_line(error: str | None) -> str | None:
    """The first line that says something, at most `ERROR` characters of it."""
    if error is None:
        return None
    line = next((line for line in error.splitlines() if line.strip()), "").strip()
    return line if len(line) <= ERROR else line[: ERROR - 1] + "…"


def _write(positions: Mapping[Side, Position | None]) -> str:
    parts = []
    for side in SIDES:
        position = positions.get(side)
        if side not in positions:
            parts.append(_AT_THE_END)
        elif position is None:
            parts.append("")
        else:
            parts.append(f"{'' if position.at is None else to_micros(position.at)}|{position.id}")
    return urlsafe_b64encode(";".join(parts).encode()).decode().rstrip("=")


def _read(cursor: str) -> dict[Side, Position | None]:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        positions: dict[Side, Position | None] = {}
        for side, part in zip(SIDES, text.split(";"), strict=True):
            if part == _AT_THE_END:
                continue
            moment, bar, job_id = part.partition("|")
            if bool(moment) != (side == "ended" and bool(bar)):
                raise ValueError
            at = stored_micros(moment) if moment else None
            positions[side] = Position(at, UUID(job_id)) if bar else None
        if not positions:
            raise ValueError
    except (ValueError, OverflowError):
        raise InvalidOption("cursor", "is not a cursor of this listing; use next_cursor of the page before") from None
    return positions
