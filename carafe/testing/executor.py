"""Runs jobs in a test, one after the other, through the worker's own ledger (claims and ends) and runner.

Guarantees: claim, timeout, outcome, hooks and ``ctx.transaction()`` are those of production. An error of a handler or hook
is not raised here; the job's record has it. Must never: talk to Redis, or run a job that the store would not let a worker
claim.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from carafe import Client
from carafe.engine.children import Children
from carafe.engine.claim import Claim
from carafe.engine.completions import Completed, End, Released, failed_by_hook
from carafe.engine.ledger import Hinted, Ledger
from carafe.engine.lifespans import Lifespans, Values
from carafe.engine.runner import Runner
from carafe.engine.runtimes import Pace
from carafe.engine.slot import Slot
from carafe.jobs.errors import CarafeError
from carafe.jobs.handlers import handlers
from carafe.jobs.identifiers import uuid7
from carafe.jobs.worker_lifespan import worker_lifespans
from carafe.settings.settings import Settings
from carafe.store.database import Database
from carafe.telemetry.job_log import JobLog

TICK = 0.02
"""Seconds between two checks of a running attempt's deadline."""

START = 60.0
"""Seconds within which the worker lifespans must be entered."""

LEAVING = 10.0
"""Seconds that the worker lifespans may take to end."""


class NoHandler(CarafeError):
    """This process has no handler for a job. A worker would leave the job to other workers; in a test it is a mistake."""

    code = "no-handler"

    def __init__(self, kind: str, version: int | None = None) -> None:
        known = ", ".join(sorted(handlers())) or "none"
        what = f"kind {kind!r}" if version is None else f"kind {kind!r} in version {version} of its arguments"
        super().__init__(
            f"no handler for {what}; there are handlers for: {known}. Import its module, or name it in the pytest option "
            "carafe_handler_modules (default: HANDLER_MODULES)"
        )


class Executor:
    """A worker with one slot, without heartbeat or queue."""

    def __init__(self, database: Database, *, result_limit: int) -> None:
        """`result_limit`: the maximum number of bytes of JSON in a job's result."""
        self._database, self._result_limit = database, result_limit
        self._worker = uuid7()
        self._lifespans: Lifespans | None = None

    async def attempt(self, job_id: UUID, kind: str) -> bool:
        """Claim the job and run one attempt of it to its end. Returns False when the job cannot be claimed, because it is
        not queued, or its queue or kind is paused.

        Raises `NoHandler` if this process has no handler for the job, and `LifespanFailed` if a worker lifespan fails at its
        start; the job then stays queued.
        """
        if kind not in handlers():
            raise NoHandler(kind)
        shared = await self._entered()
        # A new ledger each time: hooks and handlers may have been declared since the last one.
        job_log = JobLog(sys.stderr)
        ledger = Ledger(self._database, self._worker, "carafe.testing", sorted(handlers()), job_log=job_log)
        rows, refused = await ledger.claim([Hinted(job_id, kind, b"")])
        for row, error in refused:
            claim = Claim(row, b"", time.monotonic())
            await ledger.write([failed_by_hook(claim, 0.0, error)])
            job_log.flush()
            return True
        if not rows:
            return False
        claim = Claim(rows[0], b"", time.monotonic())
        version = claim.row["version"]
        if version > handlers()[kind].job.job_options.version:
            await ledger.write([Released(claim, 0.0, started=False)])
            raise NoHandler(kind, version)
        end = await self._run(claim, job_log, shared)
        if type(end) is Completed:
            ledger.completed(end)
        else:
            await ledger.write([end])
        job_log.flush()
        return True

    async def _entered(self) -> Values:
        """Enter the worker lifespans, unless they are entered, and return their values."""
        if self._lifespans is None:
            lifespans = Lifespans(worker_lifespans(), within=START)
            await lifespans.enter()
            self._lifespans = lifespans
        return self._lifespans.values

    async def close(self) -> None:
        """Leave the worker lifespans. Call it on the event loop that made the attempts."""
        lifespans, self._lifespans = self._lifespans, None
        if lifespans is not None:
            await lifespans.leave(LEAVING)

    async def _run(self, claim: Claim, job_log: JobLog, shared: Values) -> End:
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        found = [handler for handler in handlers().values() if handler.mode == "process"]
        children = Children(
            sorted({handler.job.__module__ for handler in found}),
            sorted({handler.function.__module__ for handler in found} | {found.module for found in worker_lifespans()}),
        )
        runner = Runner(
            slots=[Slot(0)],
            handlers=handlers(),
            database=self._database,
            children=children,
            pace=Pace(1),
            job_log=job_log,
            result_limit=self._result_limit,
            retry_base=_default("job_retry_base"),
            retry_cap=_default("job_retry_cap"),
            ended=ended.set_result,
            idle=lambda: None,
            shared=shared,
        )
        runner.start()
        try:
            runner.offer([claim])
            while not ended.done():
                await asyncio.wait([ended], timeout=TICK)
                runner.check_deadlines(time.monotonic())
            return ended.result()
        finally:
            await runner.stop()
            await asyncio.to_thread(children.close)


@asynccontextmanager
async def executor_of(client: Client) -> AsyncIterator[Executor]:
    """An executor for the jobs of this client. It is closed at the end of the block: the worker lifespans that its jobs
    entered are left."""
    executor = Executor(client.database, result_limit=client.limits.result_bytes)
    try:
        yield executor
    finally:
        await executor.close()


def _default(setting: str) -> float:
    default: Any = Settings.model_fields[setting].default
    return float(default)


async def attempt_all(executor: Executor, jobs: Sequence[tuple[UUID, str]]) -> list[UUID]:
    """Run one attempt of each job, in order. Returns the ids of the jobs that could be claimed. Raises like
    `Executor.attempt`."""
    return [job_id for job_id, kind in jobs if await executor.attempt(job_id, kind)]
