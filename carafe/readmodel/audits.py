"""What was done by whom, newest first, page by page. A bulk action's single jobs are told of at each job alone."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from uuid import UUID

from carafe.jobs.audit import audit_record
from carafe.jobs.errors import InvalidOption
from carafe.jobs.moves import Connection
from carafe.readmodel.records import AuditPage
from carafe.readmodel.statements import AUDIT_PAGE
from carafe.timestamps import INFINITY, stored_micros, to_micros

_NEWEST = (INFINITY, UUID(int=2**128 - 1))


async def audit_page(connection: Connection, *, target: str | None, cursor: str | None, limit: int) -> AuditPage:
    """One page. Raises `InvalidOption`, and what the database raises."""
    if not 1 <= limit <= 500:
        raise InvalidOption("limit", f"must be from 1 to 500 (got {limit})")
    if target is not None and not target.isprintable():
        raise InvalidOption("target", "must be printable characters")
    at, last = _NEWEST if cursor is None else _read(cursor)
    arguments = AUDIT_PAGE.arguments(target=target, at=at, id=last, limit=limit + 1)
    rows = [audit_record(row) for row in await connection.fetch(AUDIT_PAGE.positional, *arguments)]
    shown = rows[:limit]
    more = f"{to_micros(shown[-1].at)}|{shown[-1].id}" if len(rows) > limit else None
    return AuditPage(tuple(shown), None if more is None else urlsafe_b64encode(more.encode()).decode().rstrip("="))


def _read(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, _, row_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        return stored_micros(moment), UUID(row_id)
    except (ValueError, OverflowError):
        raise InvalidOption("cursor", "is not a cursor of this listing; use next_cursor of the page before") from None
