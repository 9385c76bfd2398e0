"""Locks held by other sessions of Postgres: finds the sessions that hold them, and describes these sessions for errors and
logs.

While a session waits for a lock, every later request for the lock waits too, even that of a reader. So Carafe waits only
briefly, gives up, and tries again after a pause in which the other sessions can continue.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from carafe.postgres_url import connect

LOOK = 0.2
"""Seconds between two queries for the sessions that block a connection."""

_SHOWN = (
    "select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type) as name, a.usename, a.state,"
    " extract(epoch from clock_timestamp() - a.xact_start)::float8 as age, left(a.query, 200) as query"
    " from pg_stat_activity a where a.pid = any($1::int[]) order by a.xact_start nulls last limit 5"
)


class Watch:
    """Which sessions block a Postgres backend, as observed on a second connection. `holders` has a description of each
    session that the last query found."""

    def __init__(self) -> None:
        self.holders: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The `holders` as one text, or a phrase which says that no such session was seen."""
        return "; ".join(self.holders) or "no session was seen holding it (it was released meanwhile)"


@asynccontextmanager
async def watched(url: str, pid: int) -> AsyncIterator[Watch]:
    """While the block runs, ask again and again which sessions block the backend with the process id `pid`. Never raises: a
    query that fails is skipped."""
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
    """A description of each session that holds the advisory lock with this key."""
    pids = await connection.fetch(
        "select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
        " and database = (select oid from pg_database where datname = current_database())"
        " and (classid::bigint << 32) | objid::bigint = $1",
        key,
    )
    return await holders(connection, [row["pid"] for row in pids])


_IN_THE_WAY = """
with held as (
    -- Who holds a table of Carafe's in a mode in which nobody else may write it, or waits for that (all wait behind it).
    select coalesce(l.pid, 0) as pid, c.relname as name, l.granted
    from pg_locks l join pg_class c on c.oid = l.relation
    where c.relnamespace = to_regnamespace('carafe') and c.relkind in ('r', 'p') and l.locktype = 'relation'
        and l.database = (select oid from pg_database where datname = current_database())
        and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        and l.pid is distinct from pg_backend_pid()
), waiters as (
    -- Who of Carafe's own sessions waits for anybody's lock. Handlers' transactions may wait for each other.
    select a.pid, coalesce(nullif(a.application_name, ''), 'a session') as waiting, pg_blocking_pids(a.pid) as blockers
    from pg_stat_activity a
    where a.datname = current_database() and a.wait_event_type = 'Lock' and a.pid <> pg_backend_pid()
        and clock_timestamp() - a.query_start > $1 * interval '1 second'
        and (a.application_name ~ '(^|: )carafe ' and a.application_name !~ '(^|: )carafe handlers '
            or exists (select from held where held.pid = a.pid and not granted))
)
select pid, name, null as waiting from held
union
select blocker, null, w.waiting from waiters w cross join unnest(w.blockers) blocker
where not exists (select from held where held.pid = blocker) and not exists (select from waiters v where v.pid = blocker)
"""


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A session whose locks hold up Carafe's statements.

    `pid` is its process id, or 0 for a prepared transaction. `holder` is a description of the session. `tables` are those of
    Carafe's tables to which nobody else can write because of it; empty if the session only locks rows. `waiting` names the
    sessions that wait for it.
    """

    pid: int
    holder: str
    tables: frozenset[str]
    waiting: str


async def in_the_way(connection: Any, *, seconds: float = 0.0) -> Sequence[InTheWay]:
    """The sessions that block Carafe's statements now. A session that only locks rows counts if another session has waited
    for it for longer than the given `seconds`."""
    rows = await connection.fetch(_IN_THE_WAY, seconds)
    found = []
    for pid in dict.fromkeys(row["pid"] for row in rows):
        words = await holders(connection, [pid])
        tables = frozenset(row["name"] for row in rows if row["pid"] == pid and row["name"] is not None)
        waiting = ", ".join(sorted({row["waiting"] for row in rows if row["pid"] == pid and row["waiting"]}))
        if words:  # else it has ended meanwhile
            found.append(InTheWay(pid, words[0], tables, waiting))
    return found


_ROW_HOLDERS = (
    "select distinct l.pid from carafe.jobs j join pg_locks l on l.locktype = 'transactionid' and l.granted"
    " and l.transactionid = j.xmax where j.id = any($1::uuid[]) and l.pid <> pg_backend_pid()"
)


async def row_holders(connection: Any, ids: Sequence[Any]) -> Sequence[str]:
    """A description of each session that has locked the rows of these jobs, or the whole table of jobs. Raises the driver's
    errors: the query reads the same table, so it may itself have to wait for a lock."""
    tables = [way.holder for way in await in_the_way(connection) if "jobs" in way.tables]
    if tables:
        return tables
    return await holders(connection, [row["pid"] for row in await connection.fetch(_ROW_HOLDERS, ids)])


async def holders(connection: Any, pids: Sequence[int]) -> Sequence[str]:
    """A description of each of these backends: process id, name, state, age of the transaction, and the start of the
    statement."""
    found = [_words(row) for row in await connection.fetch(_SHOWN, [pid for pid in pids if pid])]
    return [*found, "a prepared transaction (see pg_prepared_xacts)"] if 0 in pids else found


def _words(row: Any) -> str:
    age = "" if row["age"] is None else f", in a transaction for {row['age']:.0f} s"
    query = " ".join((row["query"] or "").split())
    query = query if len(query) <= 80 else query[:79] + "…"
    return f"pid {row['pid']} ({row['name']}, {row['state'] or 'at work'}{age}{f': {query}' if query else ''})"
