"""Rescues the jobs of lost workers: each spends an attempt and is queued again, or is dead with its reason.

A worker is lost by count of *successful* rounds without a new beat, so that an outage of Postgres, which silences everybody
at once, rescues nobody: the count goes on only while this service itself reaches the database.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from carafe.database import Database
from carafe.jobs.fingerprint import fingerprint
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.moves import Connection
from carafe.jobs.queue import Queue
from carafe.jobs.statements import RESCUE, WORKERS_SILENT
from carafe.jobs.states import State
from carafe.steward.promoter import hints_of, run_hooks_apart
from carafe.steward.service import Service, log

ROUNDS = 5
"""Successful rounds without a beat after which a worker is lost: about 15 s."""


class Rescuer(Service):
    """See the module."""

    name = "rescuer"
    interval: ClassVar[float] = 3.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        self._seen: dict[UUID, tuple[datetime, int]] = {}
        self.rescued = 0

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            workers = await connection.fetch(WORKERS_SILENT.positional)
        seen: dict[UUID, tuple[datetime, int]] = {}
        for worker in workers:
            beat, silent = self._seen.get(worker["id"], (None, 0))
            silent = silent + 1 if beat == worker["beat_at"] else 0
            seen[worker["id"]] = (worker["beat_at"], silent)
            if silent >= ROUNDS or worker["state"] in ("stopped", "lost"):
                await self._rescue(worker)
        self._seen = seen
        return False

    async def _rescue(self, worker: Mapping[str, Any]) -> None:
        if any(hooked_kinds(state) for state in (State.QUEUED, State.DEAD, State.CANCELLED)):
            async with self._database.hooked() as transaction:
                rows = await _fetch(transaction.connection, worker)
                for row in rows:
                    await run_hooks_apart(transaction.session, row)
        else:
            async with self._database.connection() as connection:
                rows = await _fetch(connection, worker)
        log.warning("worker lost", worker=worker["name"], last_beat=worker["beat_at"].isoformat(), jobs=len(rows))
        self.rescued += len(rows)
        await self._queue.push(hints_of(rows))


async def _fetch(connection: Connection, worker: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    error = f"worker lost: {worker['name']} was last heard of at {worker['beat_at']:%Y-%m-%d %H:%M:%S} UTC"
    arguments = RESCUE.arguments(
        worker=worker["id"],
        worker_name=worker["name"],
        error=error,
        fingerprint=fingerprint("", "WorkerLost", "worker lost"),
    )
    return cast(Sequence[Mapping[str, Any]], await connection.fetch(RESCUE.positional, *arguments))
