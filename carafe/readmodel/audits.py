"""Reads the audit (who did what), newest first, page by page. A row that a bulk action wrote for one job appears only on
that job's page."""

from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.readmodel.records import AuditPage
from carafe.readmodel.statements import AUDIT_PAGE
from carafe.store.audit import audit_record
from carafe.store.cursors import Position, no_cursor, read_cursor, read_position, write_cursor, write_position
from carafe.store.database import Connection
from carafe.timestamps import INFINITY

_NEWEST = Position(INFINITY, UUID(int=2**128 - 1))


async def audit_page(connection: Connection, *, target: str | None, cursor: str | None, limit: int) -> AuditPage:
    """Returns one page of the audit. With `target`, it has only actions on that job, worker or queue. `limit` is from 1 to
    500.

    Raises `InvalidOption` for a limit, target or cursor that is not valid, and what the database raises.
    """
    if not 1 <= limit <= 500:
        raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
    if target is not None and not target.isprintable():
        raise InvalidOption("target", "must be printable characters")
    at, last = _NEWEST if cursor is None else _read(cursor)
    rows = [audit_record(row) for row in await AUDIT_PAGE.fetch(connection, target=target, at=at, id=last, limit=limit + 1)]
    shown = rows[:limit]
    more = write_cursor([write_position(Position(shown[-1].at, shown[-1].id))]) if len(rows) > limit else None
    return AuditPage(tuple(shown), more)


def _read(cursor: str) -> Position:
    try:
        [part] = read_cursor(cursor)
        return read_position(part, timed=True)
    except (ValueError, OverflowError):
        raise no_cursor() from None
