"""Pages of jobs: the query of a listing, and the cursor that leads to its next page.

Keyset pages: newest first by id (UUIDv7: by creation) for live or mixed states, by end for ended ones. Each order has an
index behind it.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import JobRecord, Page, job_record
from carafe.jobs.states import ENDED, LIVE, State
from carafe.timestamps import stored_micros, to_micros

# ruff: noqa: S608  the text is ours alone; every value is bound

_COLUMNS = """id, kind, queue, state, args, secrets, version, attempt, max_attempts, fence, snoozes, releases, timeout,
    unique_key, worker, created_at, due_at, started_at, trace, created_by, progress, progress_note, cancel_requested_at"""
_TEXTS = (
    "kind", "queue", "unique_key", "trace", "created_by", "progress_note", "error_class", "error", "resolved_by",
    "resolved_reason",
)  # fmt: skip
"""Columns of text, of any length."""

_LIVE = f"""select {_COLUMNS}, deadline_at, null::timestamptz as ended_at, null::jsonb as result,
    null as error_class, null as error, null::timestamptz as resolved_at, null as resolved_by, null as resolved_reason
    from carafe.jobs"""
_ENDED = f"""select {_COLUMNS}, null::timestamptz as deadline_at, ended_at, result, error_class, error, resolved_at,
    resolved_by, resolved_reason from carafe.jobs_ended"""


def listing(
    wanted: frozenset[State],
    *,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    cursor: str | None,
    limit: int,
    longest: int | None = None,
) -> tuple[str, list[Any], bool]:
    """The query of one page, its values, and whether it is ordered by end. Raises `InvalidOption`.

    `longest`: what has more characters is left out or shortened by Postgres, and named in ``cut``.
    """
    if not 1 <= limit <= 500:
        raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
    if kind is not None and not kind.isprintable():
        raise InvalidOption("kind", "must be printable characters")
    ended_only = bool(wanted) and wanted <= ENDED
    moment = "ended_at" if ended_only else "created_at"
    values: list[Any] = []
    where = []

    def bind(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    if wanted:
        where.append(f"state = any({bind([state.value for state in sorted(wanted)])}::text[])")
    if kind is not None:
        where.append(f"kind = {bind(kind)}")
    if since is not None:
        where.append(f"{moment} >= {bind(since)}")
    if until is not None:
        where.append(f"{moment} < {bind(until)}")
    if cursor is not None:
        at, last = _read_cursor(cursor, ended_only)
        where.append(
            f"(ended_at, id) < ({bind(at)}::timestamptz, {bind(last)}::uuid)" if ended_only else f"id < {bind(last)}::uuid"
        )
    condition = f" where {' and '.join(where)}" if where else ""
    order = "ended_at desc, id desc" if ended_only else "id desc"
    sources = [_ENDED] if ended_only else [_LIVE] if wanted and wanted <= LIVE else [_LIVE, _ENDED]
    query = " union all ".join(f"({source}{condition} order by {order} limit {limit + 1})" for source in sources)
    columns = "*" if longest is None else _shortened(int(longest))
    return f"select {columns} from ({query}) as found order by {order} limit {limit + 1}", values, ended_only


def _shortened(longest: int) -> str:
    """The columns of a row, none of which is longer than so many characters."""
    every = [*map(str.strip, _COLUMNS.split(",")), "deadline_at", "ended_at", "resolved_at"]
    columns = [column for column in every if column not in ("args", *_TEXTS)]
    for name in ("args", "result"):
        columns.append(f"case when length({name}::text) <= {longest} then {name} end as {name}")
    for name in _TEXTS:
        columns.append(
            f"case when length({name}) > {longest} then left({name}, {longest - 1}) || '…' else {name} end as {name}"
        )
    long = [f"case when length({name}::text) > {longest} then '{name}' end" for name in ("args", "result", *_TEXTS)]
    return f"{', '.join(columns)}, array_remove(array[{', '.join(long)}], null) as cut"


def page(rows: Sequence[Mapping[str, Any]], limit: int, ended_only: bool) -> Page:
    """The page in the rows of that query, which asks for one row more than the limit."""
    shown = rows[:limit]
    jobs = tuple(job_record(row) for row in shown)
    return Page(jobs, cursor_after(jobs[-1], ended_only) if len(rows) > limit else None)


def cursor_after(job: JobRecord, ended_only: bool) -> str:
    """The cursor of the page that begins behind this job; `ended_only`: of a listing of ended states alone."""
    text = f"{to_micros(job.ended_at)}|{job.id}" if ended_only and job.ended_at is not None else f"|{job.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, ended_only: bool) -> tuple[datetime | None, UUID]:
    try:
        moment, _, job_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        if bool(moment) != ended_only:
            raise ValueError
        return stored_micros(moment) if moment else None, UUID(job_id)
    except (ValueError, OverflowError):
        raise InvalidOption("cursor", "is not a cursor of this listing; use next_cursor of the page before") from None
