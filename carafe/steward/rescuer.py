"""Rescues the jobs of lost workers: queues them again. A job that may have been running when its worker died runs alone from
then on; if it was the only such job, it also spends an attempt. The worker's other jobs spend no attempt.

If a worker's process is known to have ended (see carafe.process.incarnation), the worker counts as lost at once. Otherwise
it counts as lost after a number of *successful* rounds of this service without a new heartbeat. Rounds count only while this
service itself reaches Postgres, and the count begins again after any gap between them. So no worker is lost because of an
outage of Postgres, which silences all workers at once.

On Kubernetes two rounds are enough when the worker's pod or container is known to have ended (carafe.steward.cluster). A
worker that still sends heartbeats keeps its jobs whatever its pod's status says: the status may belong to a successor or
predecessor, and a pod deleted by force may run on for a while. The job's error names the cause of the death if it is known.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from carafe.jobs.definition import kinds
from carafe.jobs.hooks import hooked_kinds
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import State
from carafe.process.incarnation import known_gone
from carafe.queue.queue import Queue
from carafe.seldom import Seldom
from carafe.steward.pods import death_in
from carafe.steward.promoter import hints_of, run_hooks_apart
from carafe.steward.service import Service, log
from carafe.steward.statements import RESCUE, RESCUE_NOTE, WORKERS_SILENT
from carafe.store.database import Connection, Database
from carafe.store.fingerprint import fingerprint
from carafe.store.transitions import noted
from carafe.telemetry import metrics

ROUNDS = 15
"""Successful rounds without a heartbeat after which a worker is lost: about 15 s."""

GAP = 3.0
"""If more than this many seconds lie between two successful rounds, the rounds without a heartbeat are counted from 0 again,
for all workers."""

SURE = 2
"""Successful rounds without a heartbeat after which a worker counts as lost if its pod or container is known to have ended.
If a worker was declared lost by its successor, its jobs are rescued after as many rounds, since Kubernetes reports the cause
of its death a moment later."""

FREE_RELEASES = 10
"""The maximum number of rescues of one job that spend no attempt. Each further rescue spends one."""


SHARE = 0.05
"""The largest share of the time that may be spent on searches for jobs of workers that have ended (see `carafe.seldom`)."""

LONGEST = 60.0
"""The maximum number of seconds between two searches for jobs of workers that have ended."""


class Rescuer(Service):
    """The service that rescues the jobs of lost workers."""

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
                workers = await WORKERS_SILENT.fetch(connection, gone=gone)
        now = time.monotonic()
        if now - self._last > GAP:
            self._seen = {}
        self._last = now
        # For workers that were not checked, the last result stays.
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
                    failure = await run_hooks_apart(transaction, row)
                    if failure is not None and State(row["state"]).ended:
                        async with transaction.by_index():
                            error = noted(row["error"], failure)
                            await RESCUE_NOTE.execute(transaction.connection, id=row["id"], state=row["state"], error=error)
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
    return cast(
        Sequence[Mapping[str, Any]],
        await RESCUE.fetch(
            connection,
            worker=worker["id"],
            worker_name=worker["name"],
            error=f"worker lost: {worker['name']}: {why}",
            fingerprint=fingerprint("", "WorkerLost", " ".join(["worker lost", worker["death_reason"] or ""]).strip()),
            free_releases=FREE_RELEASES,
        ),
    )
