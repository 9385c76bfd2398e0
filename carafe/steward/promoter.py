"""Promotes due jobs: scheduled and retrying rows whose time has come become queued, and their hints are pushed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from carafe import metrics
from carafe.database import Database
from carafe.jobs.hints import QUEUE, Hint, stamp_of
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.moves import Connection, HookFailed, run_hooks
from carafe.jobs.queue import Queue
from carafe.jobs.records import as_uuid
from carafe.jobs.statements import PROMOTE
from carafe.jobs.states import State
from carafe.steward.service import Service, log

BATCH = 1000


class Promoter(Service):
    """See the module."""

    name = "promoter"
    interval: ClassVar[float] = 0.5

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self.promoted = 0

    async def work(self) -> bool:
        rows = await self._promote()
        self.promoted += len(rows)
        for kind, count in Counter(row["kind"] for row in rows).items():
            metrics.PROMOTED.add((QUEUE, kind), count)
        await self._queue.push(hints_of(rows))
        return len(rows) == BATCH

    async def _promote(self) -> Sequence[Mapping[str, Any]]:
        if not hooked_kinds(State.QUEUED):
            async with self._database.connection() as connection:
                return await _fetch(connection)
        async with self._database.hooked() as transaction:
            async with transaction.by_index():
                rows = await _fetch(transaction.connection)
            for row in rows:
                # Each in a savepoint: a bad hook must not keep its job, or its neighbours, from running.
                await run_hooks_apart(transaction.session, row)
        return rows


async def _fetch(connection: Connection) -> Sequence[Mapping[str, Any]]:
    return cast(Sequence[Mapping[str, Any]], await connection.fetch(PROMOTE.positional, BATCH))


async def run_hooks_apart(session: Any, row: Mapping[str, Any]) -> None:
    """Run a row's hooks in a savepoint of their own; a failing one is logged and leaves nothing behind."""
    try:
        async with session.begin_nested():
            await run_hooks(session, row)
    except HookFailed as error:
        log.error("hook failed, the job moves on without it", job_id=str(row["id"]), error=str(error))


def hints_of(rows: Sequence[Mapping[str, Any]]) -> list[Hint]:
    """The hints of rows that have become queued."""
    return [Hint(as_uuid(row["id"]), row["kind"], stamp_of(row["hinted_at"])) for row in rows if row["hinted_at"]]
