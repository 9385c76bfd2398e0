"""The steward renews the lease, and runs its services while it holds the lease. Any process may host a steward; one of these
processes leads.
Guarantees: a steward never raises an exception into the process that hosts it; it pauses while Postgres or Redis cannot be
used, and resumes by itself.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial

import asyncpg

from carafe.jobs.identifiers import uuid7
from carafe.postgres_away import details, words
from carafe.process.cancelling import end
from carafe.queue.queue import Queue
from carafe.steward.analyzer import Analyzer
from carafe.steward.bulk import BulkWorker
from carafe.steward.cluster import Cluster
from carafe.steward.exported import Exporter
from carafe.steward.gauges import Sampler
from carafe.steward.lease import RENEW, Lease
from carafe.steward.partitions import Partitioner
from carafe.steward.pauses import Pauser
from carafe.steward.promoter import Promoter
from carafe.steward.pruner import Pruner, Retention
from carafe.steward.repairer import Repairer
from carafe.steward.rescuer import Rescuer
from carafe.steward.service import Pauses, Service
from carafe.steward.statistics import Folder
from carafe.store.database import AWAY, Database
from carafe.telemetry import metrics
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.steward")

FOLLOW = 1.0
"""Seconds between two tries to take the lease, in a process that does not hold it. So another process has the lease within
12 s after its holder's death."""


class Steward:
    """The steward of one process. Call `start` and `stop` on the event loop of its host."""

    def __init__(
        self, database: Database, queue: Queue, *, name: str, retention: Retention | None = None, retries: int = 3
    ) -> None:
        """`database` and `queue` are those of the process that hosts the steward. `name` is the name of this steward in the
        lease and in the log. `retries` is the setting JOB_MAX_RETRIES: the number of further attempts that a bulk retry
        grants."""
        self._database = database
        self._name = name
        self.lease = Lease(database, "steward", uuid7(), name)
        self.promoter = Promoter(database, queue)
        self.repairer = Repairer(database, queue)
        self.rescuer = Rescuer(database, queue)
        self.partitioner = Partitioner(database)
        self.pauser = Pauser(database, queue)
        self.pruner = Pruner(database, retention)
        self.bulk = BulkWorker(database, queue, retries=retries)
        self.folder = Folder(database)
        self.analyzer = Analyzer(database)
        self.exporter = Exporter(database, queue, self.lease)
        self.cluster = Cluster.here(database)
        self.sampler = Sampler(database, scales=self.cluster is not None)
        self.services: tuple[Service, ...] = (
            self.promoter,
            self.repairer,
            self.rescuer,
            self.partitioner,
            self.pauser,
            self.bulk,
            self.pruner,
            self.sampler,
            self.exporter,
            self.folder,
            self.analyzer,
            *([self.cluster] if self.cluster is not None else []),
        )
        pauses = Pauses()
        for service in self.services:
            service.pauses = pauses
        self.leading = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._unfollow: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start the loops of the lease and of the services, and show in this process's metrics whether it leads."""
        self._unfollow = [metrics.LEADER.follow(lambda: {(): float(self.lease.held)})]
        self._unfollow += [metric.follow(partial(self.exporter.values, metric)) for metric in metrics.LED]
        self._tasks = [asyncio.create_task(self._lead(), name="steward lease")]
        self._tasks += [
            asyncio.create_task(self._serve(service), name=f"steward {service.name}") for service in self.services
        ]

    async def stop(self) -> None:
        """End the loops and release the lease."""
        for unfollow in self._unfollow:
            unfollow()
        await end(self._tasks)
        if self.cluster is not None:
            self.cluster.stop()
        try:
            async with asyncio.timeout(1):
                await self.lease.release()
        except AWAY:
            pass  # it expires by itself

    async def run(self) -> None:
        """Run the steward until this coroutine is cancelled."""
        self.start()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self.stop()

    async def _lead(self) -> None:
        complained = False
        while True:
            held = False
            try:
                held = await self.lease.renew()
                if held and not self.leading.is_set():
                    log.info("steward leads", name=self._name)
                    self.leading.set()
                elif not held:
                    self.leading.clear()
                complained = False
            except (*AWAY, asyncpg.PostgresError) as error:
                self.leading.clear()
                if not complained:
                    log.warning("lease not renewed", why=f"Postgres {words(error)}", error=details(error))
                complained = True
            except Exception:
                # Unexpected: without this loop the process would never lead again.
                self.leading.clear()
                if not complained:
                    log.exception("lease not renewed: unexpected error, trying again")
                complained = True
            await asyncio.sleep((RENEW if held else FOLLOW) * random.uniform(0.8, 1.0))

    async def _serve(self, service: Service) -> None:
        while True:
            if not self.lease.held:
                await self.leading.wait()
                if not self.lease.held:
                    await asyncio.sleep(FOLLOW)
                    continue
            try:
                await service.round()
                await service.pause()
            except Exception:
                # Unexpected, and past the service's own error handling: the duty must not stay undone.
                log.exception("upkeep failed unexpectedly; it goes on", service=service.name)
                await asyncio.sleep(FOLLOW)
