"""Promotes due jobs: scheduled and retrying rows whose time has come become queued, and their hints are pushed."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from carafe import metrics
from carafe.database import Database, HookedTransaction
from carafe.jobs.hints import QUEUE, Hint, stamp_of
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.moves import Connection, HookFailed, run_hooks
from carafe.jobs.queue import Queue
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import PROMOTE
from carafe.jobs.states import State
from carafe.seldom import Seldom
from carafe.steward.service import Service, log

BATCH = 1000

SHARE = 0.1
"""Of the time that looking at all that may be due takes at most: it passes the index entries of all that became due since
the last vacuum (see `carafe.seldom`). In between, only what has become due since the last look is looked at."""

LONGEST = 10.0
"""Seconds between two looks at everything at most: so long a job may wait that was stored late, by a transaction that took
longer than the job's delay and `MARGIN`."""

MARGIN = 5.0
"""Seconds that a look reaches back before the last one."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

ALWAYS = 100 * 366 * 86_400.0
"""Seconds: a look at everything."""


class Promoter(Service):
    """See the module."""

    name = "promoter"
    interval: ClassVar[float] = 0.5

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self.promoted = 0
        self._everything = Seldom(SHARE, LONGEST)
        self._everything_now, self._after = True, LONG_AGO
        self._looked = 0.0
        self._through = False

    async def round(self) -> None:
        """One look at everything, or at what is due since the last look; each batch goes on where the one before ended."""
        now = time.monotonic()
        everything = self._everything.due()
        self._everything_now, self._after = everything, LONG_AGO
        with self._everything.look() if everything else nullcontext():
            self._through = False
            await super().round()
        if self._through:
            self._looked = now
        else:
            self._everything.at_once()  # Postgres was away, say: what became due meanwhile is not known

    async def work(self) -> bool:
        rows = await self._promote()
        if rows:
            self._after = max(row["due_at"] for row in rows)
        self.promoted += len(rows)
        for kind, count in Counter(row["kind"] for row in rows).items():
            metrics.PROMOTED.add((QUEUE, kind), count)
        await self._queue.push(hints_of(rows))
        self._through = len(rows) < BATCH
        return not self._through

    async def _promote(self) -> Sequence[Mapping[str, Any]]:
        if not hooked_kinds(State.QUEUED):
            async with self._database.connection() as connection:
                return await self._fetch(connection)
        async with self._database.hooked() as transaction:
            async with transaction.by_index():
                rows = await self._fetch(transaction.connection)
            for row in rows:
                # Each in a savepoint: a bad hook must not keep its job, or its neighbours, from running.
                await run_hooks_apart(transaction, row)
        return rows

    async def _fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        within = ALWAYS if self._everything_now else time.monotonic() - self._looked + MARGIN
        arguments = PROMOTE.arguments(limit=BATCH, within=within, after=self._after)
        return cast(Sequence[Mapping[str, Any]], await connection.fetch(PROMOTE.positional, *arguments))


async def run_hooks_apart(transaction: HookedTransaction, row: Mapping[str, Any]) -> None:
    """Run a row's hooks in a savepoint of their own; a failing one is logged and leaves nothing behind."""
    try:
        async with transaction.session.begin_nested():
            await run_hooks(transaction, row)
    except HookFailed as error:
        log.error("hook failed, the job moves on without it", job_id=str(row["id"]), error=str(error))


def hints_of(rows: Sequence[Mapping[str, Any]]) -> list[Hint]:
    """The hints of rows that have become queued."""
    return [Hint(as_uuid(row["id"]), row["kind"], stamp_of(row["hinted_at"])) for row in rows if row["hinted_at"]]
