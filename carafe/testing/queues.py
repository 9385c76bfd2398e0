"""What stands in a client's queue's place during a test: hints are pushed nowhere; inline, a hint runs its job.

A hint is pushed after the commit and never after a rollback, whoever's transaction it was. So running a job where its hint
would have been pushed is running it when a worker first could.
"""

from collections.abc import Sequence
from typing import Any

import structlog

from carafe.jobs.hints import Hint
from carafe.jobs.queue import Queue
from carafe.testing.executor import Executor, NoHandler

log = structlog.stdlib.get_logger("carafe.testing")


class ManualQueue(Queue):
    """Takes hints and drops them: Postgres has the jobs."""

    def __init__(self, original: Queue) -> None:
        """`original` serves everything else that a queue is used for."""
        self._original = original

    @property
    def redis(self) -> Any:
        """The original's client."""
        return self._original.redis

    async def push(self, hints: Sequence[Hint]) -> bool:
        """Says that all were taken."""
        return True

    async def close(self) -> None:
        """Close the original."""
        await self._original.close()


class InlineQueue(ManualQueue):
    """Runs each hint's job before `push` returns."""

    def __init__(self, original: Queue, executor: Executor) -> None:
        super().__init__(original)
        self._executor = executor

    async def push(self, hints: Sequence[Hint]) -> bool:
        """One attempt of each job; what goes wrong with it is in its record."""
        for hint in hints:
            try:
                await self._executor.attempt(hint.id, hint.kind)
            except NoHandler as error:
                log.warning("job not run, it stays queued", job_id=str(hint.id), reason=str(error))
        return True
