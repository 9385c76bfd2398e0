"""A client for fixtures, which do not know on which event loop a test will run, nor when that loop will end.

A client must be closed on the loop that used it. The plugins that run tests (anyio's, pytest-asyncio) end their loops before
or after the end of a fixture. So the client is closed at whichever comes first: the end of the fixture, or the end of the
loop, which cancels the loop's tasks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carafe import Client, Limits
from carafe.queue.queue import Queue
from carafe.store.database import Database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


@contextmanager
def client_on(database_url: str, redis_url: str, *, limits: Limits | None = None) -> Iterator[Client]:
    """Yields a client for the event loop that uses it first. The client is closed when the block or that loop ends,
    whichever is first."""
    lifetime = _Lifetime()
    client = Client(_Database(database_url, lifetime), _Queue(redis_url, lifetime), limits=limits)
    lifetime.client = client
    yield client
    lifetime.end()


class _Lifetime:
    """Closes a client in time. At the client's first use it starts a task on the current loop; when that task is cancelled,
    it closes the client."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            return
        self._loop = asyncio.get_running_loop()
        self._guard = self._loop.create_task(self._close_with_loop(), name="carafe client of a test")

    async def _close_with_loop(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            assert self.client is not None
            await self.client.close()

    def end(self) -> None:
        if self._loop is None or self._guard is None or self._loop.is_closed():
            return
        self._guard.cancel()
        if not self._loop.is_running():
            self._loop.run_until_complete(asyncio.wait([self._guard]))


class _Database(Database):
    def __init__(self, url: str, lifetime: _Lifetime) -> None:
        super().__init__(url, name="carafe test", by_index=True)
        self._lifetime = lifetime

    async def pool(self) -> Any:
        self._lifetime.begin()
        return await super().pool()

    @property
    def engine(self) -> "AsyncEngine":
        self._lifetime.begin()
        return super().engine


class _Queue(Queue):
    def __init__(self, url: str, lifetime: _Lifetime) -> None:
        # Redis is on this machine, and a push that timed out would look like a lost job.
        super().__init__(url, timeout=5.0, name="carafe-test")
        self._lifetime = lifetime

    @property
    def redis(self) -> Any:
        self._lifetime.begin()
        return super().redis
