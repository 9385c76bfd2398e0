"""The heartbeat: tells Postgres that this worker lives, and compares what it holds with the truth (DESIGN.md rule 9).

It has a thread and a connection of its own, so that neither a busy loop nor a full pool makes a living worker look dead.
Each beat brings back what must be stopped: jobs that somebody wants cancelled and jobs that are no longer this worker's; and
whether somebody wants the worker itself to drain. It costs what the worker holds. Rows that run under it which it does not
hold are looked for after the beat, seldom when that has become dear. A worker that could not beat for a while starts nothing
(`Engine.trust`).
Guarantees: no error ends it, foreseen or not; `tried` tells when it tried last, so that its end would be seen (`/livez`).
"""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import asyncpg
import structlog

from carafe import __version__
from carafe.database import DISCONNECTED, plan_by_index
from carafe.engine.holdings import InHand
from carafe.incarnation import incarnation, pod
from carafe.jobs.statements import UNDEFER, WORKER_BEAT, WORKER_START, WORKER_STOP, WORKER_UNHELD
from carafe.postgres_url import connect
from carafe.seldom import Seldom

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.heartbeat")

INTERVAL = 1.0
"""Seconds between two beats."""

ANSWER = 4.0
"""Seconds that a beat may take; a slower one is given up, and the connection with it."""

LOOK = 2.0
"""Seconds that a look for rows that are not held may take; one that takes longer is given up, the beat is not."""

SHARE = 0.02
"""Of this connection's time that such looks may take."""

LONGEST = 60.0
"""Seconds between two such looks at most."""

AFTER_DOUBT = 3
"""Beats with such a look, whatever it takes, after a claim whose outcome is not known: a row counts only when it was claimed
before the last beat, and a cut connection's statement may commit a moment later."""

UNDEFERRED = 1_000
"""Jobs that are made due for a hint in one beat, of those that waited for a worker of this one's kinds."""

Pair = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a beat brought back, as (id, fence) pairs. `sent` is when it was sent, in monotonic seconds; `drain`: somebody
    wants this worker to drain."""

    sent: float
    cancel: Sequence[Pair]
    lost: Sequence[Pair]
    drain: bool = False


class Beating(Protocol):
    """What the heartbeat needs of the engine; called from the heartbeat's thread."""

    id: UUID
    name: str
    kinds: list[str]
    concurrency: int
    draining: bool

    @property
    def doubts(self) -> int:
        """How many claims have had no answer, or one that nobody foresaw."""
        ...

    def held(self, since: datetime) -> InHand:
        """What is in hand, what was claimed before `since` first."""
        ...

    def found(self, findings: Findings) -> None:
        """A beat has come back."""
        ...

    def unheld(self, ids: Sequence[UUID]) -> None:
        """These rows run under this worker, and it does not hold them."""
        ...

    def missed(self, error: BaseException) -> None:
        """A beat has failed: Postgres does not answer."""
        ...

    def declared_lost(self) -> None:
        """This worker's jobs were given to others while it was away: a claim that is under way may be of before that."""
        ...


class Heartbeat:
    """The beating thread of one worker."""

    def __init__(self, engine: Beating, settings: "Settings") -> None:
        assert settings.database_url is not None
        self._engine = engine
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
        """When a beat was tried last, whatever came of it, in monotonic seconds."""
        self._thread = threading.Thread(target=self._main, name="carafe heartbeat", daemon=True)
        self.announced = threading.Event()

    def start(self) -> None:
        """Start beating; returns at once."""
        self.tried = time.monotonic()
        self._thread.start()

    def beat_now(self) -> None:
        """Do not wait for the next beat: something has changed in Postgres. From any thread."""
        if self._loop is not None and self._now is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._now.set)

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self.beat_now()
            self._thread.join(3)

    def _main(self) -> None:
        try:
            asyncio.run(self._beat())
        except BaseException:
            log.critical("the heartbeat has ended, others will take this worker's jobs", exc_info=True)

    async def _beat(self) -> None:
        self._loop, self._end, self._now = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        while not self._end.is_set():
            self.tried = time.monotonic()
            try:
                await self._try()
            except Exception:
                # Nobody foresaw it. Told once, until a beat succeeds: meanwhile no job is begun (`Engine.trust`).
                if self._complaint != "unforeseen":
                    log.exception("heartbeat failed for no foreseen reason, trying again")
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
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError):
            said = "the database has no tables of this release yet: run `carafe migrate`; waiting for it"
            if self._complaint != said:
                log.error(said)
            self._complaint = said
        except (*DISCONNECTED, asyncpg.PostgresError) as error:
            if not self._complaint:
                log.warning("heartbeat failed, Postgres cannot be used", error=type(error).__name__)
            self._complaint = "away"
            self._disconnect()
            self._engine.missed(error)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = await connect(self._url, name=f"carafe heartbeat {self._engine.name}")
        await plan_by_index(connection)
        return connection

    async def _goodbye(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            return
        try:
            async with asyncio.timeout(2):
                await connection.execute(WORKER_STOP.positional, self._engine.id)
                await connection.close()
        except (*DISCONNECTED, asyncpg.PostgresError):
            connection.terminate()

    async def _pause(self, seconds: float) -> None:
        assert self._now is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), seconds)
        self._now.clear()

    async def _announce(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        engine = self._engine
        arguments = WORKER_START.arguments(
            id=engine.id,
            name=engine.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            incarnation=incarnation(),
            pod=pod(),
            version=__version__,
            kinds=engine.kinds,
            concurrency=engine.concurrency,
        )
        await connection.execute(WORKER_START.positional, *arguments)
        self._deferred = True
        # After the announcement: the next beat compares all that was claimed before it.
        self._since = await connection.fetchval("select now()")
        self.announced.set()

    async def _once(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        engine = self._engine
        assert self._since is not None
        sent = time.monotonic()
        # Times of claims are compared with the time of the beat before, both Postgres's: what was claimed since may be
        # on its way to us.
        held = engine.held(self._since)
        arguments = WORKER_BEAT.arguments(
            id=engine.id,
            state="draining" if engine.draining else "running",
            ids=held.ids,
            fences=held.fences,
            settled=held.settled,
        )
        rows = await connection.fetch(WORKER_BEAT.positional, *arguments)
        found: dict[str, list[Pair]] = {"cancel": [], "lost": []}
        at = None
        drain = False
        for row in rows:
            if row["what"] == "beat":
                at = row["at"]
            elif row["what"] == "drain":
                drain = True
            else:
                found[row["what"]].append((row["id"], row["fence"]))
        if at is None:
            # Declared lost while we were away (frozen, partitioned). What we claim from now on is ours again; what was
            # taken from us is fenced off, and the next beat says what that is.
            log.warning("this worker was declared lost and comes back")
            engine.declared_lost()
            await self._announce(connection)
            self.beat_now()
            return
        before, self._since = self._since, at
        engine.found(Findings(sent, found["cancel"], found["lost"], drain))
        if unheld := await self._look(connection, held, before):
            engine.unheld(unheld)
        if self._deferred:
            rows = await connection.fetch(UNDEFER.positional, *UNDEFER.arguments(kinds=engine.kinds, limit=UNDEFERRED))
            self._deferred = len(rows) == UNDEFERRED

    async def _look(self, connection: "asyncpg.Connection[asyncpg.Record]", held: InHand, since: datetime) -> Sequence[UUID]:
        """The rows that run under this worker and are not in its hands; none when it is not the time to look for them."""
        if (doubts := self._engine.doubts) != self._doubts:
            self._doubts, self._looks = doubts, AFTER_DOUBT
        if self._looks:
            self._looks -= 1
        elif not self._unheld.due():
            return ()
        arguments = WORKER_UNHELD.arguments(id=self._engine.id, since=since, ids=held.ids, claiming=held.claiming)
        with self._unheld.look():
            try:
                return [row["id"] for row in await connection.fetch(WORKER_UNHELD.positional, *arguments, timeout=LOOK)]
            except TimeoutError:
                return ()  # the connection is fit for use: asyncpg has cancelled the statement
