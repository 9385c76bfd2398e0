"""Scans a table of jobs along an index, window by window, when there is no index for the whole filter. A scan ends after a
fixed number of the newest rows, or when its time is used up."""

import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from carafe.jobs.records import as_uuid
from carafe.store.cursors import Position
from carafe.store.database import Connection
from carafe.store.keyset import Query, Walk

SEARCHED = 100_000
"""The maximum number of rows that one page searches in each table."""

FIRST, LARGEST = 4_000, 16_000
"""The number of rows in the first window, and in the largest one. Each window is twice as large as the one before. Because
the first is small, a short time limit is hardly exceeded; because later ones are large, few statements are needed."""

OVERRUN = 0.03
"""How many seconds after the deadline a window is given up. The first window is never given up. A window can take much
longer than expected: its rows may have to be read from disk, and it may contain many deleted rows that no vacuum has removed
yet."""


class Window(NamedTuple):
    """The rows after the position `after`, up to and including `until` (None: to the end of the table).

    `tried` is the number of rows in this window and those before it; in the last window it may be too high. `given_up` is
    the time, on `time.monotonic`, at which a query for the window is given up, or None if the query may take any time.
    """

    after: Position | None
    until: Position | None
    tried: int
    given_up: float | None


async def windows(connection: Connection, walk: Walk, after: Position | None, deadline: float) -> AsyncIterator[Window]:
    """Yields the windows after the position `after`, at least one. `deadline` is a time on `time.monotonic`: no window
    begins that would probably end later. The query for the end of a window is given up `OVERRUN` seconds after the deadline.

    Raises the database's errors.
    """
    rows, tried = FIRST, 0
    given_up: float | None = None
    while True:
        began = time.monotonic()
        boundary = await fetched(connection, walk.boundary(after, rows), given_up)
        if boundary is None:
            return
        until = Position(boundary[0]["at"], as_uuid(boundary[0]["id"])) if boundary else None
        tried += rows
        yield Window(after, until, tried, given_up)
        now = time.monotonic()
        following = min(2 * rows, LARGEST, SEARCHED - tried)
        if until is None or following <= 0 or now + (now - began) * following / rows > deadline:
            return
        after, rows = until, following
        given_up = deadline + OVERRUN


async def fetched(connection: Connection, query: Query, given_up: float | None) -> list[Any] | None:
    """The rows of a query, or None if they did not arrive before the time `given_up`. Raises the database's errors.

    After None was returned, the connection is still busy with ending the query. The next query on it waits for that, and
    must have no short timeout itself: asyncpg would close the connection.
    """
    timeout = None if given_up is None else max(0.001, given_up - time.monotonic())
    try:
        return list(await connection.fetch(query.text, *query.values, timeout=timeout))
    except TimeoutError:
        return None
