"""Databases for tests: copies of one migrated template, made and dropped on a real server.

Works from fixtures and from within a running event loop alike: each command runs in a thread of its own.
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

from carafe.database import migrate, plain_dsn

T = TypeVar("T")


class Databases:
    """Makes databases on the server of `server_url`, with the library's schema and that of `migrations`."""

    def __init__(self, server_url: str, migrations: Sequence[str] = ()) -> None:
        self._server_url, self._migrations = server_url, tuple(migrations)
        # Other processes may test on the same server.
        self._prefix = f"carafe_test_{os.getpid()}_{id(self):x}"
        self._numbers = itertools.count(1)
        self._template: str | None = None

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of a new, migrated database, dropped at the end whoever is still connected."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f'create database "{name}" template "{self._migrated_template()}"')
        try:
            yield self._url(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the template."""
        if self._template is not None:
            self._drop(self._template)
            self._template = None

    def _migrated_template(self) -> str:
        if self._template is None:
            name = f"{self._prefix}_template"
            self._execute(f'create database "{name}"')
            self._template = name
            in_thread(lambda: migrate(self._url(name), self._migrations))
        return self._template

    def _drop(self, name: str) -> None:
        self._execute(f'drop database if exists "{name}" with (force)')

    def _url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(plain_dsn(self._server_url))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        in_thread(run)


def in_thread(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the coroutine function `work` returns, run to its end on a loop of its own in a thread of its own."""

    def run() -> T:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(work())

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()
