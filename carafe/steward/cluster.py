"""Watches the pods of workers, and keeps in Postgres which pods exist, why wanted pods do not run, and how workers died.

Kubernetes forgets a deleted pod's status, so Postgres keeps it for a day after the pod is gone. The next leader, the
dashboard and the command line read this information from Postgres, without a request to the API server.
Guarantees: what the API server reports is written to Postgres a moment later, in bounded batches, one row for each pod.
Outside a cluster, or if the service account has no permission to list pods, nothing is watched.
"""

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import Any, ClassVar, Self

import orjson

from carafe.kubernetes import here
from carafe.kubernetes.api import Api
from carafe.kubernetes.presence import Presence
from carafe.kubernetes.watching import PodWatch, Source
from carafe.steward.service import Service
from carafe.steward.statements import PODS_ABSENT, PODS_CONFIRM, PODS_REMEMBER, PRUNE_PODS
from carafe.store.database import Database
from carafe.store.statement import Statement

BATCH = 200
"""The maximum number of pods that one statement writes."""

FOLLOW_FOR = 15.0
"""After each round of this service the pods are watched for this many seconds. So a process that no longer leads, and so
does no more rounds, soon stops watching."""

GATHER = 0.1
"""Seconds for which changes are collected before they are written together."""

CONFIRM = 10.0
"""Seconds between two statements that mark the pods in Postgres as still up to date, even if nothing has changed."""

PRUNE, KEEP = 60.0, 86_400.0
"""`PRUNE` is the seconds between two prunings, `KEEP` the seconds that a pod is kept after it is gone."""


class Cluster(Service):
    """The service that watches the pods of workers and keeps their state in Postgres."""

    name = "cluster"
    interval: ClassVar[float] = 1.0

    def __init__(self, database: Database, namespace: str, source: Source) -> None:
        super().__init__()
        self._database, self._namespace = database, namespace
        self._watch = PodWatch(source, self._wake)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._unwritten: dict[str, Presence] = {}
        self._present: set[str] = set()
        self._listed = False
        self._confirmed = self._pruned = 0.0

    @classmethod
    def here(cls, database: Database) -> Self | None:
        """Returns the service for the namespace of this process's pod; None outside a cluster."""
        pod = here()
        return None if pod is None else cls(database, pod.namespace, Api(pod))

    def stop(self) -> None:
        """Stop watching."""
        self._watch.stop()

    async def work(self) -> bool:
        self._loop = asyncio.get_running_loop()
        self._woken.clear()
        self._watch.keep(FOLLOW_FOR)
        self._take()
        batch = list(self._unwritten.values())[:BATCH]
        if batch:
            await self._execute(PODS_REMEMBER, pods=orjson.dumps([pod_row(presence) for presence in batch]).decode())
            for presence in batch:
                if self._unwritten.get(presence.uid) is presence:
                    del self._unwritten[presence.uid]
        if self._unwritten:
            return True
        if self._listed:
            await self._execute(PODS_ABSENT, namespace=self._namespace, present=sorted(self._present))
            self._listed = False
        now = time.monotonic()
        if self._watch.well and now - self._confirmed > CONFIRM:
            await self._execute(PODS_CONFIRM, present=sorted(self._present))
            self._confirmed = now
        if now - self._pruned > PRUNE:
            await self._execute(PRUNE_PODS, keep=KEEP, limit=1000)
            self._pruned = now
        return False

    async def pause(self) -> None:
        """Wait until a pod changes, or until the interval is over."""
        if self._watch.off:
            await super().pause()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self.interval)
            await asyncio.sleep(GATHER)

    def _take(self) -> None:
        """Take what the watch has seen, to write it to Postgres. A later state of a pod replaces an earlier state that is
        not written yet."""
        seen, whole = self._watch.take()
        if whole is not None:
            self._present, self._listed = whole, True
        for presence in seen:
            self._unwritten[presence.uid] = presence
            if presence.gone:
                self._present.discard(presence.uid)
            else:
                self._present.add(presence.uid)

    async def _execute(self, statement: Statement, **values: Any) -> None:
        async with self._database.connection() as connection:
            await statement.execute(connection, **values)

    def _wake(self) -> None:
        """End the pause of this service. Called from the watch's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._woken.set)


def pod_row(presence: Presence) -> dict[str, Any]:
    """Returns a pod's status as a dictionary with the columns that pods_remember.sql reads."""
    row = asdict(presence)
    death = row.pop("death")
    if death is not None:
        row |= {f"death_{name}": value for name, value in death.items()}
    return row
