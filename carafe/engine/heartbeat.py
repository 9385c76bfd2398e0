"""The heartbeat tells Postgres that this worker lives, and compares the claims that the worker holds with the rows in
Postgres (docs/design rule 9).

It has a thread and a connection of its own, so that neither a busy event loop nor a full pool makes a living worker look
dead. Postgres answers each beat with the jobs that this worker must stop: jobs that are to be cancelled, and jobs that no
longer belong to this worker. The answer also says whether the worker is to drain, and of which jobs somebody has asked where
they are (`carafe.engine.where`): since this thread answers, a job that blocks the event loop is shown as well. The cost of a
beat grows with the number of claims that the worker holds. After a beat, the heartbeat searches for unheld rows: rows of
jobs that run on this worker according to Postgres, although the worker holds no claim on them. If this search becomes slow,
it happens less often. A worker that could not beat for a while starts no job (`reconciliation.TRUST`).
Guarantees: no error ends the heartbeat; if it ended all the same, `/livez` would notice that, since `tried` has the time of
the last try.
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from carafe import __version__
from carafe.engine.held_claims import InHand
from carafe.engine.reconciliation import Findings, Pair, Reconciliation
from carafe.engine.statements import STACK_ANSWER, UNDEFER, WORKER_UNHELD
from carafe.postgres_away import words
from carafe.postgres_url import connect
from carafe.process.incarnation import incarnation, pod
from carafe.seldom import Seldom
from carafe.store.database import DISCONNECTED, OLDER_SCHEMA, plan_by_index
from carafe.store.statements import WORKER_BEAT, WORKER_START, WORKER_STOP
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

log = get_logger("carafe.heartbeat")

INTERVAL = 1.0
"""Seconds between two heartbeats."""

NEAREST = 0.1
"""The minimum number of seconds between two beats, even if more are requested. (A message in Redis requests a beat, so any
client of Redis can flood a worker with requests.)"""

ANSWER = 4.0
"""Seconds that a beat may take. A slower beat is given up, and its connection is closed."""

LOOK = 2.0
"""Seconds that a search for unheld rows may take (rows that run on this worker, which holds no claim on them). A slower
search is given up, but the beat before it still counts as successful."""

SHARE = 0.02
"""The largest share of the heartbeat's time that searches for unheld rows may take."""

LONGEST = 60.0
"""The maximum number of seconds between two searches for unheld rows."""

AFTER_DOUBT = 3
"""After a claim statement whose outcome is unknown, this many beats are followed by a search for unheld rows, even if
searches are slow. One search is not enough: it finds only rows that were claimed before the previous beat, and a statement
may still commit a moment after its connection was cut."""

UNDEFERRED = 1_000
"""Some jobs wait for a worker that knows their kind. If this worker knows it, their hints become due after a beat: those of
at most this many jobs."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker tells Postgres about itself."""

    id: UUID
    name: str
    kinds: list[str]
    versions: list[int]
    """For each kind in `kinds`, the newest version of the job's arguments that the worker knows."""
    concurrency: int


class Heartbeat:
    """The heartbeat of one worker, in a thread of its own."""

    def __init__(
        self, settings: "Settings", worker: Identity, reconciliation: Reconciliation, draining: Callable[[], bool]
    ) -> None:
        """The function `draining` returns whether the worker drains. The heartbeat's thread calls it."""
        assert settings.database_url is not None
        self._worker, self._reconciliation, self._draining = worker, reconciliation, draining
        self._url = settings.database_url.get_secret_value()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._now: asyncio.Event | None = None
        self._since: datetime | None = None
        self._unheld = Seldom(SHARE, LONGEST)
        self._doubts, self._looks = 0, AFTER_DOUBT
        self._deferred = True
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._complaint = ""
        self.tried = time.monotonic()
        """When a beat was last tried, with or without success, in monotonic seconds."""
        self._thread = threading.Thread(target=self._main, name="carafe heartbeat", daemon=True)
        self.announced = threading.Event()

    def start(self) -> None:
        """Start the heartbeat's thread. Returns at once."""
        self.tried = time.monotonic()
        self._thread.start()

    def beat_now(self) -> None:
        """Make the next beat happen as soon as `NEAREST` permits, because something has changed in Postgres. Callable from
        any thread."""
        if self._loop is not None and self._now is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._now.set)

    def stop(self) -> None:
        """Tell Postgres that this worker stops, and end the thread."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self.beat_now()
            self._thread.join(3)

    def _main(self) -> None:
        try:
            asyncio.run(self._beat())
        except BaseException:
            log.critical("the heartbeat has ended: other workers will get this worker's jobs", exc_info=True)

    async def _beat(self) -> None:
        self._loop, self._end, self._now = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        while not self._end.is_set():
            self.tried = time.monotonic()
            try:
                await self._try()
            except Exception:
                # Unexpected. Logged once, until a beat succeeds: meanwhile no job is begun (`reconciliation.TRUST`).
                if self._complaint != "unforeseen":
                    log.exception("heartbeat failed: unexpected error, trying again")
                self._complaint = "unforeseen"
                self._disconnect()
            await self._pause(INTERVAL)
        await self._goodbye()

    async def _try(self) -> None:
        try:
            # Bounded as a whole: a silent network must not stop the beating for longer than it lasts.
            async with asyncio.timeout(ANSWER):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                if not self.announced.is_set():
                    await self._announce(self._connection)
                await self._once(self._connection)
            if self._complaint:
                log.info("heartbeat goes on")
            self._complaint = ""
        except OLDER_SCHEMA as error:
            said = f"heartbeat waits: the database {words(error)}"
            if self._complaint != said:
                log.error(said)
            self._complaint = said
        except (*DISCONNECTED, asyncpg.PostgresError) as error:
            if not self._complaint:
                log.warning("heartbeat failed, Postgres cannot be used", error=type(error).__name__)
            self._complaint = "away"
            self._disconnect()
            self._reconciliation.missed(error)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await connect(self._url, name=f"carafe heartbeat {self._worker.name}")
        await plan_by_index(connection)
        return connection

    async def _goodbye(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            return
        try:
            async with asyncio.timeout(2):
                await WORKER_STOP.execute(connection, id=self._worker.id)
                await connection.close()
        except (*DISCONNECTED, asyncpg.PostgresError):
            connection.terminate()

    async def _pause(self, seconds: float) -> None:
        assert self._now is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), seconds)
        await asyncio.sleep(max(0.0, self.tried + NEAREST - time.monotonic()))
        self._now.clear()

    async def _announce(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        worker = self._worker
        await WORKER_START.execute(
            connection,
            id=worker.id,
            name=worker.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            incarnation=incarnation(),
            pod=pod(),
            version=__version__,
            kinds=worker.kinds,
            versions=worker.versions,
            concurrency=worker.concurrency,
        )
        self._deferred = True
        # After the announcement: the next beat compares all that was claimed before it.
        self._since = await connection.fetchval("select now()")
        self.announced.set()

    async def _once(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        worker, reconciliation = self._worker, self._reconciliation
        assert self._since is not None
        sent = time.monotonic()
        # Both times are Postgres's: that of a claim and that of the beat before. A claim made since then may still be on its
        # way to us.
        held = reconciliation.held(self._since)
        rows = await WORKER_BEAT.fetch(
            connection,
            id=worker.id,
            state="draining" if self._draining() else "running",
            ids=held.ids,
            fences=held.fences,
            settled=held.settled,
        )
        found: dict[str, list[Pair]] = {"cancel": [], "lost": []}
        asked: list[Pair] = []
        at = None
        drain = False
        for row in rows:
            if row["what"] == "beat":
                at = row["at"]
            elif row["what"] == "drain":
                drain = True
            elif row["what"] == "stack":
                asked.append((row["id"], row["fence"]))
            else:
                found[row["what"]].append((row["id"], row["fence"]))
        if at is None:
            # This worker was declared lost while it was away (frozen, partitioned). What it claims from now on is its own
            # again. Jobs that were taken from it are fenced off, and the next beat names them.
            log.warning("this worker was declared lost, but it lives and takes jobs again")
            reconciliation.declared_lost()
            await self._announce(connection)
            self.beat_now()
            return
        before, self._since = self._since, at
        reconciliation.found(Findings(sent, found["cancel"], found["lost"], drain))
        for job_id, fence in asked:
            if (lines := reconciliation.where(job_id, fence)) is not None:
                await STACK_ANSWER.execute(connection, id=job_id, fence=fence, lines=lines)
        if unheld := await self._look(connection, held, before):
            reconciliation.unheld(unheld)
        if self._deferred:
            rows = await UNDEFER.fetch(connection, kinds=worker.kinds, limit=UNDEFERRED)
            self._deferred = len(rows) == UNDEFERRED

    async def _look(self, connection: "asyncpg.Connection[asyncpg.Record]", held: InHand, since: datetime) -> Sequence[UUID]:
        """Returns the ids of unheld rows: according to Postgres these jobs run on this worker, but it does not hold them.
        Returns nothing if no search is due or the search took too long."""
        if (doubts := self._reconciliation.doubts) != self._doubts:
            self._doubts, self._looks = doubts, AFTER_DOUBT
        if self._looks:
            self._looks -= 1
        elif not self._unheld.due():
            return ()
        with self._unheld.look():
            try:
                return [
                    row["id"]
                    for row in await WORKER_UNHELD.fetch(
                        connection, id=self._worker.id, since=since, ids=held.ids, claiming=held.claiming, timeout=LOOK
                    )
                ]
            except TimeoutError:
                return ()  # the connection is fit for use: asyncpg has cancelled the statement
