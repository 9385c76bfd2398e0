"""The heartbeat: tells Postgres that this worker lives, on a thread and connection of its own, so that neither a busy loop
nor a full pool makes a living worker look dead. Each beat brings back which running jobs somebody wants cancelled.
"""

import asyncio
import os
import socket
import threading
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import asyncpg
import structlog

from carafe import __version__
from carafe.database import CONNECT_TIMEOUT, DISCONNECTED, plain_dsn
from carafe.jobs.statements import UNDEFER, WORKER_BEAT, WORKER_START, WORKER_STOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.heartbeat")

INTERVAL = 1.0
"""Seconds between two beats."""


class Beating(Protocol):
    """What the heartbeat needs of the engine."""

    id: UUID
    name: str
    kinds: "list[str]"
    concurrency: int
    draining: bool

    def cancel(self, wanted: "Sequence[tuple[UUID, int]]") -> None: ...


class Heartbeat:
    """The beating thread of one worker."""

    def __init__(self, engine: Beating, settings: "Settings") -> None:
        assert settings.database_url is not None
        self._engine = engine
        self._dsn = plain_dsn(settings.database_url.get_secret_value())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._main, name="carafe heartbeat", daemon=True)
        self.announced = threading.Event()

    def start(self) -> None:
        """Start beating; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        if self._loop is not None and self._end is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(3)

    def _main(self) -> None:
        asyncio.run(self._beat())

    async def _beat(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        connection: asyncpg.Connection[asyncpg.Record] | None = None
        complained = False
        while not self._end.is_set():
            try:
                if connection is None or connection.is_closed():
                    connection = await asyncpg.connect(
                        self._dsn,
                        timeout=CONNECT_TIMEOUT,
                        command_timeout=5,
                        server_settings={"application_name": f"carafe heartbeat {self._engine.name}"},
                    )
                if not self.announced.is_set():
                    await self._announce(connection)
                await self._once(connection)
                complained = False
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError):
                if not complained:
                    log.error("the database has no tables of this release yet: run `carafe migrate`; waiting for it")
                complained = True
            except (*DISCONNECTED, asyncpg.PostgresError) as error:
                if not complained:
                    log.warning("heartbeat failed, Postgres is away", error=type(error).__name__)
                complained = True
                if connection is not None:
                    connection.terminate()
                    connection = None
            await self._pause(INTERVAL)
        if connection is not None and not connection.is_closed():
            try:
                await connection.execute(WORKER_STOP.positional, self._engine.id)
                await connection.close(timeout=1)
            except (*DISCONNECTED, asyncpg.PostgresError):
                connection.terminate()

    async def _pause(self, seconds: float) -> None:
        assert self._end is not None
        try:
            await asyncio.wait_for(self._end.wait(), seconds)
        except TimeoutError:
            pass

    async def _announce(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        engine = self._engine
        arguments = WORKER_START.arguments(
            id=engine.id,
            name=engine.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            incarnation=incarnation(),
            version=__version__,
            kinds=engine.kinds,
            concurrency=engine.concurrency,
        )
        await connection.execute(WORKER_START.positional, *arguments)
        await connection.execute(UNDEFER.positional, engine.kinds)
        self.announced.set()

    async def _once(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        engine = self._engine
        state = "draining" if engine.draining else "running"
        rows = await connection.fetch(WORKER_BEAT.positional, *WORKER_BEAT.arguments(id=engine.id, state=state))
        if not rows:
            # Declared lost while we were away (frozen, partitioned). What we claim from now on is ours again; what was
            # taken from us is fenced off.
            log.warning("this worker was declared lost and comes back")
            await self._announce(connection)
        wanted = [(row["job_id"], row["fence"]) for row in rows if row["job_id"] is not None]
        if wanted:
            engine.cancel(wanted)


def incarnation() -> str:
    """What tells this process from any other that ever has its name: the pod's UID, or boot id, PID and start time."""
    pod = os.environ.get("POD_UID")
    if pod:
        return f"pod {pod} {os.getpid()}"
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open("/proc/self/stat") as stat:
            started = stat.read().rpartition(")")[2].split()[19]
            return f"boot {boot.read().strip()} {os.getpid()} {started}"
    except OSError:
        return f"process {os.getpid()} {socket.gethostname()}"
