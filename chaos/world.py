"""The world under test: servers, links, workers and web processes, and a supervisor that starts again what has crashed.

Guarantees: whatever it started is ended at its end, also after an error. Everything it writes is in `folder`.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx

from carafe import Client
from carafe.jobs.modules import load_jobs
from carafe.settings.settings import Settings
from carafe.store.database import migrate
from chaos import failover
from chaos.processes import Place, exit_code, now
from chaos.proxy import HOST, Link, Network
from chaos.servers import Postgres, Valkey
from chaos.witness import SCHEMA

ROOT = Path(__file__).parent.parent

DRAIN_TIMEOUT = 3.0
"""Seconds that jobs get at a drain here."""

SETTINGS = {
    "ENVIRONMENT": "development",
    "MIGRATIONS": "",
    "JOB_MODULES": "chaos.jobs",
    "HANDLER_MODULES": "chaos.handlers",
    "WEB_APPLICATION": "chaos.web:create_app",
    "WORKER_APPLICATION": "carafe.engine.application:app",
    "WORKER_CONCURRENCY": "8",
    "JOB_TIMEOUT": "90",
    "JOB_RETRY_BASE": "0.1",
    "JOB_RETRY_CAP": "1",
    "DRAIN_TIMEOUT": str(DRAIN_TIMEOUT),
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "INFO",
    "PORT": "0",
    "DASHBOARD": "false",
    "PROBE_PORT": "0",
}


class World:
    """See the module. Made by `world`."""

    def __init__(self, folder: Path, *, workers: int, webs: int, broken: str | None, settings: dict[str, str]) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.postgres = Postgres(folder / "postgres")
        self.valkey = Valkey(folder / "valkey")
        self.network = Network()
        self.broken = broken
        self.workers: list[Place] = []
        self.webs: list[Place] = []
        self.exits: list[tuple[float, str, int]] = []
        self.drains: list[tuple[str, int | None, float]] = []
        self._counts = (workers, webs)
        self._settings = settings

    # -- making it

    async def start(self) -> None:
        """Start everything and wait until it works."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget()
        await asyncio.gather(
            asyncio.to_thread(self.postgres.restart_on_the_same_port),
            asyncio.to_thread(self.valkey.restart_on_the_same_port),
        )
        self.network.__enter__()
        load_jobs(["chaos.jobs"])
        await migrate(self.postgres.url)
        async with self.truth() as connection:
            await connection.execute(SCHEMA)
        workers, webs = self._counts
        self.workers = [self._place(f"worker-{number}", "serve", "--worker") for number in range(workers)]
        self.webs = [self._place(f"web-{number}", "serve") for number in range(webs)]
        for place in self.places:
            place.start()
        await self.ready()

    def _forget(self) -> None:
        """Remove what an earlier run has left in this folder."""
        for name in ("postgres", "valkey", "crashed"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for file in (self.journal, *self.folder.glob("*.log")):
            file.unlink(missing_ok=True)

    @property
    def places(self) -> list[Place]:
        """Every worker and web process."""
        return [*self.workers, *self.webs]

    def _place(self, name: str, *arguments: str) -> Place:
        # A broken build is started through its own entry point; see chaos.broken.
        program = ["-m", "chaos.broken", self.broken] if self.broken else ["-m", "carafe"]
        return Place(name, [sys.executable, *program, *arguments], self.environment(name), self.folder)

    def environment(self, name: str) -> dict[str, str]:
        """What a process named so reads: no setting of the caller's, and links of its own."""
        ours = {field.upper() for field in Settings.model_fields}
        kept = {key: value for key, value in os.environ.items() if key not in ours}
        return (
            kept
            | SETTINGS
            | self._settings
            | self.urls(name)
            | {
                "PYTHONPATH": str(ROOT),
                "CHAOS_JOURNAL": str(self.journal),
            }
        )

    def urls(self, name: str) -> dict[str, str]:
        """The servers as a process of this name reaches them: through its links."""
        postgres, redis = self.link(name, "postgres"), self.link(name, "redis")
        return {
            "DATABASE_URL": self.postgres.url_at(postgres.port),
            "REDIS_URL": self.valkey.url_at(redis.port),
        }

    def link(self, name: str, server: str) -> Link:
        """The link from a process to a server, made when asked for first."""
        link = self.network.links.get((name, server))
        if link is None:
            # The port of a server that is down is still the one it will have again.
            upstream: dict[str, Callable[[], int]] = {
                "postgres": lambda: self.postgres.kept_port,
                "redis": lambda: self.valkey.kept_port,
            }
            link = self.network.link(name, server, upstream[server])
        return link

    # -- looking at it

    @asynccontextmanager
    async def truth(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection straight to Postgres, past every link."""
        connection = await asyncpg.connect(self.postgres.url, timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=2)

    @property
    def redis_url(self) -> str:
        """Redis past every link, also while it is down."""
        return self.valkey.url_at(self.valkey.kept_port)

    def client(self, name: str) -> Client:
        """A client that reaches the servers through links of this name."""
        urls = self.urls(name)
        return Client.connect(database_url=urls["DATABASE_URL"], redis_url=urls["REDIS_URL"], pool_size=4)

    def web_urls(self) -> list[str]:
        """Where the web processes that have said so serve."""
        return [str(line["url"]) for web in self.webs if web.running and (line := web.said("serving"))]

    async def ready(self, within: float = 60.0) -> None:
        """Wait until every process answers its readiness. Raises TimeoutError with the name of one that does not."""
        async with httpx.AsyncClient(timeout=3) as http:
            deadline = now() + within
            for place in self.places:
                while not await self._is_ready(http, place):
                    if now() > deadline:
                        raise TimeoutError(f"{place.name} is not ready after {within:g} s; see {place.log}")
                    await asyncio.sleep(0.05)

    async def _is_ready(self, http: httpx.AsyncClient, place: Place) -> bool:
        line = place.said("serving" if place in self.webs else "worker starting")
        if line is None:
            return False
        url = f"{line['url']}/health" if place in self.webs else f"http://{HOST}:{line['probes']}/readyz"
        try:
            return (await http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    # -- keeping it

    async def supervise(self) -> None:
        """Start again what has ended by itself, until cancelled."""
        while True:
            await asyncio.sleep(0.25)
            for place in self.places:
                process = place.process
                if place.wanted and process is not None and process.poll() is not None:
                    self.exits.append((now(), place.name, process.returncode))
                    await asyncio.sleep(0.25)
                    if place.wanted:
                        place.start()

    async def roll(self, place: Place) -> None:
        """Replace a process as a rollout does, and see the old one out."""
        began = now()
        old = place.replace()
        code = await asyncio.to_thread(exit_code, old, DRAIN_TIMEOUT + 30)
        self.drains.append((place.name, code, now() - began))

    async def heal(self) -> None:
        """Undo whatever is still broken, and wait until all works."""
        self.network.heal()
        for server in (self.postgres, self.valkey):
            await asyncio.to_thread(server.restart_on_the_same_port)
        await failover.recover(self.postgres.url)
        async with Client.connect(database_url=self.postgres.url, redis_url=self.redis_url, pool_size=1) as client:
            await client.resume()
        for place in self.places:
            place.signal(signal.SIGCONT, group=True)
            place.start()
        await self.ready()

    def end(self) -> None:
        """End everything."""
        for place in self.places:
            place.end()
        for stop in (self.valkey.stop, self.postgres.stop):
            with contextlib.suppress(Exception):
                stop()
        self.network.__exit__()


@asynccontextmanager
async def world(
    folder: Path,
    *,
    workers: int = 3,
    webs: int = 2,
    broken: str | None = None,
    settings: dict[str, str] | None = None,
    keep: bool = False,
) -> AsyncIterator[World]:
    """A running world in `folder`; the servers' data is removed at the end unless `keep`."""
    made = World(folder, workers=workers, webs=webs, broken=broken, settings=settings or {})
    supervisor: asyncio.Task[None] | None = None
    try:
        await made.start()
        supervisor = asyncio.create_task(made.supervise())
        yield made
    finally:
        # Nothing is awaited before all has ended: an interrupt would end the wait, and leave the processes.
        if supervisor is not None:
            supervisor.cancel()
        made.end()
        if not keep:
            for data in ("postgres", "valkey"):
                shutil.rmtree(folder / data, ignore_errors=True)
        if supervisor is not None:
            await asyncio.gather(supervisor, return_exceptions=True)
