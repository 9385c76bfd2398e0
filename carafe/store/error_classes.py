"""Finds the class of errors that a filter's shortened class stands for: ``ConnectError`` for ``httpx.ConnectError``.

Dead jobs have an index that begins with the class. It serves the whole name alone. So the names that there are among dead
jobs are looked up first: they are few. If exactly one of them is meant, the index leads to its jobs; otherwise, the newest
jobs are searched, as for any filter without an index.
"""

from carafe.store.database import Connection
from carafe.store.filters import JobFilter, Side, is_class
from carafe.store.keyset import led_by_class
from carafe.store.statements import DEAD_ERROR_CLASSES

MOST = 100
"""Names that are looked up at most. An application with more of them makes names up as it runs."""


async def whole_class(connection: Connection, filter: JobFilter, side: Side) -> str | None:  # noqa: A002
    """The whole name of the only class among dead jobs that the filter means, for `walk_of`. If it means none of them, that
    is the filter's own. None if it means several, if there are too many to look at, and if no index on the class would serve
    the filter anyway.

    Raises the database's errors.
    """
    if filter.error_class is None or not led_by_class(filter, side):
        return None
    names = [row["name"] for row in await DEAD_ERROR_CLASSES.fetch(connection, most=MOST)]
    meant = [name for name in names if is_class(name, filter.error_class)]
    if len(names) >= MOST or len(meant) > 1:
        return None
    return meant[0] if meant else filter.error_class
