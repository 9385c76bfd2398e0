"""Queues that replace a client's queue during a test. A hint is the message that announces a job to workers: one queue drops
all hints, the other runs the job of each hint.

A hint is pushed after the commit of the job's transaction, and never after a rollback. So a job that `InlineQueue` runs
begins at the moment at which a worker could begin it.
"""

from collections.abc import Sequence
from typing import Any

from carafe import Client
from carafe.client.driving import in_thread
from carafe.engine.lifespans import LifespanFailed
from carafe.queue.hints import Hint
from carafe.queue.queue import Queue
from carafe.store.blocking_database import BlockingDatabase
from carafe.telemetry.loggers import get_logger
from carafe.testing.executor import Executor, NoHandler, executor_of

log = get_logger("carafe.testing")


class ManualQueue(Queue):
    """A queue that drops all hints. The jobs are in Postgres, where `drain` finds them."""

    def __init__(self, original: Queue) -> None:
        """`original` is the client's own queue. It still does everything except pushing hints."""
        self._original = original

    @property
    def redis(self) -> Any:
        """The Redis client of the original queue."""
        return self._original.redis

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Drops the hints, and returns True, as if Redis had taken them."""
        return True

    async def close(self) -> None:
        """Close the original queue."""
        await self._original.close()


class RunningQueue(ManualQueue):
    """A queue that runs the job of each hint before `push` returns. `push` raises nothing, since the jobs are committed; the
    end of the block that made the queue calls `raise_failure`."""

    def __init__(self, original: Queue) -> None:
        super().__init__(original)
        self._failure: LifespanFailed | None = None

    def raise_failure(self) -> None:
        """Raises `LifespanFailed` if a worker lifespan could not be entered, so that jobs did not run."""
        if self._failure is not None:
            raise self._failure

    async def _attempt(self, executor: Executor, hints: Sequence[Hint]) -> None:
        for hint in hints:
            if self._failure is not None:
                return
            try:
                await executor.attempt(hint.id, hint.kind)
            except NoHandler as error:
                log.warning("job not run; it stays queued", job_id=str(hint.id), reason=str(error))
            except LifespanFailed as error:
                self._failure = error


class InlineQueue(RunningQueue):
    """A `RunningQueue` for a `Client`."""

    def __init__(self, original: Queue, executor: Executor) -> None:
        super().__init__(original)
        self._executor = executor

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Run one attempt of each hint's job. Errors are not raised; the job's record has them."""
        await self._attempt(self._executor, hints)
        return True


class BlockingInlineQueue(RunningQueue):
    """A `RunningQueue` for a `SyncClient`. Handlers run on an event loop in a thread that ends before `push` returns."""

    def __init__(self, original: Queue, client: Client) -> None:
        """`client` is the client within the `SyncClient`."""
        super().__init__(original)
        self._client = client

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Run one attempt of each hint's job. Errors are not raised; the job's record has them."""

        async def work() -> None:
            async with asynchronous(self._client) as client, executor_of(client) as executor:
                await self._attempt(executor, hints)

        if hints:
            in_thread(work)
        return True


def asynchronous(client: Client) -> Client:
    """A client for an event loop, on the same Postgres as `client`, which belongs to a `SyncClient`. It pushes no hints."""
    assert isinstance(client.database, BlockingDatabase)
    return Client(client.database.asynchronous(), ManualQueue(Queue("")), limits=client.limits)
