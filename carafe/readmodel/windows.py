"""Window by window along a walk whose filter no index serves wholly, until the newest rows are tried or the time is over."""

import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from carafe.jobs.moves import Connection
from carafe.jobs.records import as_uuid
from carafe.readmodel.walks import Position, Query, Walk

SEARCHED = 100_000
"""Rows that one page tries on each side at most."""

FIRST, LARGEST = 4_000, 16_000
"""Rows of the first window, and of the largest: each is twice the one before, so that little time is overrun by much, and so
that a page takes few statements (each waits for a processor twice, while a drain keeps them all busy)."""

OVERRUN = 0.03
"""Seconds after its deadline at which a window is given up, but the first: its rows may have to be read from disk, and where
many have been deleted since the last vacuum, each leaves a step on the way that counts for none."""


class Window(NamedTuple):
    """What lies behind `after` down to `until` (None: to the end). `tried`: rows of this window and those before it, which
    is all that is known of the last one, and too many there. `given_up` on `time.monotonic`; None: never."""

    after: Position | None
    until: Position | None
    tried: int
    given_up: float | None


async def windows(connection: Connection, walk: Walk, after: Position | None, deadline: float) -> AsyncIterator[Window]:
    """The windows behind `after`, at least one. `deadline` on `time.monotonic`: none begins that would likely end after it,
    and one whose end is not found soon after it is not given.

    Raises what the database raises.
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
    """The rows of a query; None: they were not there in time. Raises what the database raises.

    After None the connection is still busy ending the query: the next one waits for that, and must not be given a time
    itself, or asyncpg ends the connection when it is short.
    """
    timeout = None if given_up is None else max(0.001, given_up - time.monotonic())
    try:
        return list(await connection.fetch(query.text, *query.values, timeout=timeout))
    except TimeoutError:
        return None
