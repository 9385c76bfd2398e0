"""Databases for tests: copies of one migrated template, created and dropped on a real server.

Works in fixtures and within a running event loop, because the SQL statements run in a separate thread. All these statements
share one connection: opening a connection takes as much time as copying a database.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from carafe.client.driving import in_thread
from carafe.store.database import migrate, plain_dsn

T = TypeVar("T")


class Databases:
    """Creates databases on the server at `server_url`, with Carafe's schema and the schemas of the migration packages
    `migrations`."""

    def __init__(self, server_url: str, migrations: Sequence[str] = ()) -> None:
        self._server_url, self._migrations = server_url, tuple(migrations)
        # Other processes may test on the same server.
        self._prefix = f"carafe_test_{os.getpid()}_{id(self):x}"
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._strategy = ""
        self._thread: ThreadPoolExecutor | None = None
        self._runner: asyncio.Runner | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Yields the URL of a new, migrated database. The database is dropped after the block, even while clients are
        connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        template = self._migrated_template()
        self._execute(f'create database "{name}" template "{template}"{self._strategy}')
        try:
            yield self._url(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the template database, and close the connection."""
        if self._template is not None:
            self._drop(self._template)
            self._template = None
        if self._thread is not None and self._runner is not None:
            self._in_own_thread(self._disconnect)
            self._thread.submit(self._runner.close).result()
            self._thread.shutdown()
            self._thread = self._runner = None

    def _migrated_template(self) -> str:
        if self._template is None:
            name = f"{self._prefix}_template"
            self._execute(f'create database "{name}"')
            self._template = name
            in_thread(lambda: migrate(self._url(name), self._migrations))
            # On a server that does not wait for its disk, copying files is quicker than copying through the write-ahead log.
            if self._execute("show fsync") == "off":
                self._strategy = " strategy file_copy"
        return self._template

    def _drop(self, name: str) -> None:
        self._execute(f'drop database if exists "{name}" with (force)')

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    def _execute(self, statement: str) -> Any:
        """Run a statement, and return the first value of its first row, or None."""

        async def run() -> Any:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(plain_dsn(self._server_url), statement_cache_size=0)
            return await self._connection.fetchval(statement)

        return self._in_own_thread(run)

    def _in_own_thread(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._thread is None or self._runner is None:
            self._thread = ThreadPoolExecutor(1, "carafe test databases")
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        return self._thread.submit(lambda runner: runner.run(work()), self._runner).result()

    async def _disconnect(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close()
        self._connection = None
