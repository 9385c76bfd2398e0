"""Promotes due jobs: a scheduled or retrying job whose time has come becomes queued, and its hint is pushed."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, ClassVar, cast

from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import as_uuid
from carafe.jobs.states import State
from carafe.queue.hints import Hint, stamp_of
from carafe.queue.queue import Queue
from carafe.seldom import Seldom
from carafe.steward.service import Service
from carafe.steward.statements import PROMOTE
from carafe.store.database import Connection, Database, HookedTransaction
from carafe.store.transitions import HookFailed, log_failure, run_hooks
from carafe.telemetry import metrics

BATCH = 1000

SHARE = 0.1
"""The share of the time that scans of all due jobs may take (see `carafe.seldom`). Such a scan reads the index entries of
all jobs that became due since the last vacuum. The scans between them read only those of jobs that became due since the
previous scan."""

LONGEST = 10.0
"""The maximum number of seconds between two scans of all due jobs. A job may have to wait this long if the transaction
that enqueued or changed it committed late: more than `MARGIN` seconds after the job was due."""

MARGIN = 5.0
"""A scan for newly due jobs also finds jobs that became due up to this many seconds before the previous scan."""

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

ALWAYS = 100 * 366 * 86_400.0
"""How many seconds a scan of all due jobs looks back: a century, so that no due job is missed."""


class Promoter(Service):
    """The service that promotes due jobs and pushes their hints."""

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
        """Do one scan, either of all due jobs or of those that became due since the last scan. Each batch continues where
        the batch before ended."""
        now = time.monotonic()
        everything = self._everything.due()
        self._everything_now, self._after = everything, LONG_AGO
        with self._everything.look() if everything else nullcontext():
            self._through = False
            await super().round()
        if self._through:
            self._looked = now
        else:
            self._everything.at_once()  # Postgres may have been away: what became due meanwhile is unknown

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
        return cast(
            Sequence[Mapping[str, Any]], await PROMOTE.fetch(connection, limit=BATCH, within=within, after=self._after)
        )


async def run_hooks_apart(transaction: HookedTransaction, row: Mapping[str, Any]) -> HookFailed | None:
    """Run the hooks for a row's change in a savepoint of their own. If a hook fails, undo what the hooks did, log the
    failure and return it."""
    try:
        async with transaction.session.begin_nested():
            await run_hooks(transaction, row)
    except HookFailed as error:
        log_failure(error, "the job moves on without it")
        return error
    return None


def hints_of(rows: Sequence[Mapping[str, Any]]) -> list[Hint]:
    """Returns the hints for the rows of jobs that have become queued. A row without a stamp gets no hint."""
    return [Hint(as_uuid(row["id"]), row["kind"], stamp_of(row["hinted_at"])) for row in rows if row["hinted_at"]]
