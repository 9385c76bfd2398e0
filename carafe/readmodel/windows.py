"""Window by window along a walk whose filter no index serves wholly, until the newest rows are tried or the time is over."""

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from carafe.jobs.moves import Connection
from carafe.jobs.records import as_uuid
from carafe.readmodel.walks import Position, Walk

SEARCHED = 100_000
"""Rows that one page tries on each side at most."""

FIRST, LARGEST = 4_000, 16_000
"""Rows of the first window, and of the largest: each is twice the one before, so that little time is overrun by much, and so
that a page takes few statements (each waits for a processor twice, while a drain keeps them all busy)."""

OVERRUN = 0.03
"""Seconds after its deadline at which the search for the end of a window is given up, but of the first: where many rows have
been deleted since the last vacuum, each leaves a step that counts for none."""


class Window(NamedTuple):
    """What lies behind `after` down to `until` (None: to the end). `tried`: rows of this window and those before it, which
    is all that is known of the last one, and too many there."""

    after: Position | None
    until: Position | None
    tried: int


async def windows(connection: Connection, walk: Walk, after: Position | None, deadline: float) -> AsyncIterator[Window]:
    """The windows behind `after`, at least one. `deadline` on `time.monotonic`: none begins that would likely end after it,
    and one whose end is not found soon after it is not given.

    Raises what the database raises.
    """
    rows, tried = FIRST, 0
    patience: float | None = None
    while True:
        began = time.monotonic()
        query = walk.boundary(after, rows)
        try:
            boundary = await connection.fetchrow(query.text, *query.values, timeout=patience)
        except TimeoutError:
            return
        until = None if boundary is None else Position(boundary["at"], as_uuid(boundary["id"]))
        tried += rows
        yield Window(after, until, tried)
        now = time.monotonic()
        following = min(2 * rows, LARGEST, SEARCHED - tried)
        if until is None or following <= 0 or now + (now - began) * following / rows > deadline:
            return
        after, rows = until, following
        patience = deadline + OVERRUN - now
