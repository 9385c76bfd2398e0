"""Watches the pods of workers, and keeps in Postgres which are there, why others are not, and how they died.

A deleted pod's status is gone with it, so the last death is kept for a day; and it is kept in Postgres, so that the next
leader, the dashboard and the command line know it without asking the API server.
Guarantees: what the API server says is in Postgres a moment later, in bounded batches, one row a pod. Off outside a cluster,
and where the service account may not list pods.
"""

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import Any, ClassVar, Self

import orjson

from carafe.database import Database
from carafe.jobs.statements import PODS_ABSENT, PODS_CONFIRM, PODS_REMEMBER, PRUNE_PODS, Statement
from carafe.kubernetes import here
from carafe.kubernetes.api import Api
from carafe.kubernetes.presence import Presence
from carafe.kubernetes.watching import PodWatch, Source
from carafe.steward.service import Service

BATCH = 200
"""Pods written at once."""

FOLLOW_FOR = 15.0
"""Seconds that the pods are followed after the last round: one who no longer leads stops looking."""

GATHER = 0.1
"""Seconds that changes are gathered before they are written."""

CONFIRM = 10.0
"""Seconds between two confirmations of what has not changed."""

PRUNE, KEEP = 60.0, 86_400.0
"""Seconds between two prunings, and that pods are kept once they are gone."""


class Cluster(Service):
    """See the module."""

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
        """That of the pod this process runs in; None outside a cluster."""
        pod = here()
        return None if pod is None else cls(database, pod.namespace, Api(pod))

    def stop(self) -> None:
        """Look no longer."""
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
        """Until something changes, or the interval is over."""
        if self._watch.off:
            await super().pause()
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self.interval)
            await asyncio.sleep(GATHER)

    def _take(self) -> None:
        """Take over what the watch has seen; what is not written yet gives way to what was seen later."""
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
            await connection.execute(statement.positional, *statement.arguments(**values))

    def _wake(self) -> None:
        """Called from the watch's thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._woken.set)


def pod_row(presence: Presence) -> dict[str, Any]:
    """A pod as pods_remember.sql takes it."""
    row = asdict(presence)
    death = row.pop("death")
    if death is not None:
        row |= {f"death_{name}": value for name, value in death.items()}
    return row
