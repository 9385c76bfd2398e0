"""Locks that others hold: who they are, in words, and how to wait for one without making everybody else wait.

A lock that is waited for stands in a queue: whoever comes later waits behind it, readers too. So it is waited for briefly,
given up, and tried again after a pause in which the others pass.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from carafe.postgres_url import connect

LOOK = 0.2
"""Seconds between two looks at who blocks."""

_SHOWN = (
    "select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type) as name, a.usename, a.state,"
    " extract(epoch from clock_timestamp() - a.xact_start)::float8 as age, left(a.query, 200) as query"
    " from pg_stat_activity a where a.pid = any($1::int[]) order by a.xact_start nulls last limit 5"
)


class Watch:
    """What a second connection saw of those who block a backend. `holders`: the last that were seen, in words."""

    def __init__(self) -> None:
        self.holders: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The holders, or that there is no knowing."""
        return "; ".join(self.holders) or "nobody was seen to hold it (its holder came and went)"


@asynccontextmanager
async def watched(url: str, pid: int) -> AsyncIterator[Watch]:
    """Look who blocks the backend `pid` for as long as the block lasts. What cannot be seen fails nothing."""
    watch = Watch()
    task = asyncio.create_task(_look(url, pid, watch))
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _look(url: str, pid: int, watch: Watch) -> None:
    connection = await connect(url, name="carafe looks at locks", command_timeout=2)
    try:
        while True:
            with contextlib.suppress(asyncpg.PostgresError, TimeoutError):
                pids = await connection.fetchval("select pg_blocking_pids($1)", pid)
                if pids:
                    watch.holders = await holders(connection, pids)
            await asyncio.sleep(LOOK)
    finally:
        connection.terminate()


async def advisory_holders(connection: Any, key: int) -> Sequence[str]:
    """Who holds the advisory lock of this key, in words."""
    pids = await connection.fetch(
        "select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
        " and database = (select oid from pg_database where datname = current_database())"
        " and (classid::bigint << 32) | objid::bigint = $1",
        key,
    )
    return await holders(connection, [row["pid"] for row in pids])


async def holders(connection: Any, pids: Sequence[int]) -> Sequence[str]:
    """These backends, in words: who, in what state, since when, and how their statement begins."""
    found = [_words(row) for row in await connection.fetch(_SHOWN, [pid for pid in pids if pid])]
    return [*found, "a prepared transaction (see pg_prepared_xacts)"] if 0 in pids else found


def _words(row: Any) -> str:
    age = "" if row["age"] is None else f", in a transaction for {row['age']:.0f} s"
    query = " ".join((row["query"] or "").split())
    query = query if len(query) <= 80 else query[:79] + "…"
    return f"pid {row['pid']} ({row['name']}, {row['state'] or 'at work'}{age}{f': {query}' if query else ''})"
