"""Rescues the jobs of lost workers: what may have been running runs alone from then on, and spends an attempt if it was the
only one; the rest goes back at no cost.

A worker is lost at once when its process is known to be gone (see carafe.incarnation), or by count of *successful* rounds
without a new beat: an outage of Postgres, which silences everybody at once, rescues nobody, because the count goes on only
while this service itself reaches the database, and begins anew after any gap in its own rounds.

On Kubernetes two rounds are enough when its pod or container is known to have ended (carafe.steward.cluster). One that still
beats is left alone whatever is said of its pod: the word may be a successor's or a predecessor's, and a pod deleted by force
may run on for a while. The error says the cause of the death where it is known.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from carafe import metrics
from carafe.database import Database
from carafe.incarnation import known_gone
from carafe.jobs.definition import kinds
from carafe.jobs.fingerprint import fingerprint
from carafe.jobs.hints import QUEUE
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.moves import Connection
from carafe.jobs.queue import Queue
from carafe.jobs.statements import RESCUE, WORKERS_SILENT
from carafe.jobs.states import State
from carafe.seldom import Seldom
from carafe.steward.pods import death_in
from carafe.steward.promoter import hints_of, run_hooks_apart
from carafe.steward.service import Service, log

ROUNDS = 15
"""Successful rounds without a beat after which a worker is lost: about 15 s."""

GAP = 3.0
"""Seconds between two successful rounds that make a gap: then every count begins anew."""

SURE = 2
"""The same for a worker whose pod or container is known to have ended. So long, too, the jobs of a worker in a watched pod
that its successor has declared lost wait for the cause of its death, which the cluster tells a moment later."""

FREE_RELEASES = 10
"""Rescues that cost a job nothing, at most; then each counts."""


SHARE = 0.05
"""Of the time that looking for rows of workers that are not there any more may take: see `carafe.seldom`."""

LONGEST = 60.0
"""Seconds between two such looks at most."""


class Rescuer(Service):
    """See the module."""

    name = "rescuer"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, queue: Queue) -> None:
        super().__init__()
        self._database, self._queue = database, queue
        metrics.WORKERS_LOST.add((), 0)
        for kind in kinds():
            # Shown as 0, so that the first rescue is seen as a rise.
            metrics.RESCUED.add((QUEUE, kind, "queued"), 0)
            metrics.FINISHED.add((QUEUE, kind, "dead"), 0)
        self._seen: dict[UUID, tuple[datetime, int]] = {}
        self._last = 0.0
        self._gone = Seldom(SHARE, LONGEST)
        self.rescued = 0

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            gone = self._gone.due()
            with self._gone.look() if gone else nullcontext():
                workers = await connection.fetch(WORKERS_SILENT.positional, gone)
        now = time.monotonic()
        if now - self._last > GAP:
            self._seen = {}
        self._last = now
        # Of those that were not looked for is known what was known.
        seen: dict[UUID, tuple[datetime, int]] = {} if gone else dict(self._seen)
        for worker in workers:
            beat, silent = self._seen.get(worker["id"], (None, 0))
            silent = silent + 1 if beat == worker["beat_at"] else 0
            seen[worker["id"]] = (worker["beat_at"], silent)
            if worker["state"] in ("stopped", "lost"):
                cause_comes = worker["state"] == "lost" and worker["watched"] and worker["death_reason"] is None
                if silent >= SURE or not cause_comes:
                    await self._rescue(worker, "its process has ended")
            elif known_gone(worker["incarnation"]):
                await self._rescue(worker, "its process is gone")
            elif worker["pod_over"] and silent >= SURE:
                await self._rescue(worker, "its pod has ended")
            elif silent >= ROUNDS:
                await self._rescue(worker, f"no beat since {worker['beat_at']:%Y-%m-%d %H:%M:%S} UTC")
        self._seen = seen
        return False

    async def _rescue(self, worker: Mapping[str, Any], why: str) -> None:
        death = death_in(worker)
        if death is not None:
            why = death.words(worker["pod"], worker["node"])
        if any(hooked_kinds(state) for state in (State.QUEUED, State.DEAD, State.CANCELLED)):
            async with self._database.hooked() as transaction:
                async with transaction.by_index():
                    rows = await _fetch(transaction.connection, worker, why)
                for row in rows:
                    await run_hooks_apart(transaction, row)
        else:
            async with self._database.connection() as connection:
                rows = await _fetch(connection, worker, why)
        log.warning("worker lost", worker=worker["name"], pid=worker["pid"], id=str(worker["id"]), why=why, jobs=len(rows))
        self.rescued += len(rows)
        _count(rows)
        await self._queue.push(hints_of(rows))


def _count(rows: Sequence[Mapping[str, Any]]) -> None:
    metrics.WORKERS_LOST.add(())
    for (kind, state), count in Counter((row["kind"], str(row["state"])) for row in rows).items():
        metrics.RESCUED.add((QUEUE, kind, state), count)
        if State(state).ended:
            metrics.FINISHED.add((QUEUE, kind, state), count)


async def _fetch(connection: Connection, worker: Mapping[str, Any], why: str) -> Sequence[Mapping[str, Any]]:
    arguments = RESCUE.arguments(
        worker=worker["id"],
        worker_name=worker["name"],
        error=f"worker lost: {worker['name']}: {why}",
        # Deaths of one cause are one group, whatever pod it was.
        fingerprint=fingerprint("", "WorkerLost", " ".join(["worker lost", worker["death_reason"] or ""]).strip()),
        free_releases=FREE_RELEASES,
    )
    return cast(Sequence[Mapping[str, Any]], await connection.fetch(RESCUE.positional, *arguments))
