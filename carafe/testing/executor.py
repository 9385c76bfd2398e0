"""Runs jobs in a test, one after the other, through the worker's own ledger (claims and ends) and runner.

Guarantees: claim, timeout, outcome, hooks and ``ctx.transaction()`` are those of production. An error of a handler or hook
is not raised here; the job's record has it. Must never: talk to Redis, or run a job that the store would not let a worker
claim.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from carafe.engine.children import Children
from carafe.engine.claim import Claim
from carafe.engine.completions import Completed, End, Failed, Released
from carafe.engine.ledger import Hinted, Ledger
from carafe.engine.runner import Runner
from carafe.engine.runtimes import Pace
from carafe.engine.slot import Slot
from carafe.jobs.errors import CarafeError
from carafe.jobs.handlers import handlers
from carafe.jobs.identifiers import uuid7
from carafe.settings.settings import Settings
from carafe.store.database import Database
from carafe.telemetry.job_log import JobLog

TICK = 0.02
"""Seconds between two checks of a running attempt's deadline."""


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
        """`result_limit`: the most bytes of JSON that a job's result may have."""
        self._database, self._result_limit = database, result_limit
        self._worker = uuid7()

    async def attempt(self, job_id: UUID, kind: str) -> bool:
        """Claim the job and run one attempt of it to its end. Returns False when the job cannot be claimed, because it is
        not queued, or its queue or kind is paused.

        Raises `NoHandler` if this process has no handler for the job, which then stays queued.
        """
        if kind not in handlers():
            raise NoHandler(kind)
        # A new ledger each time: hooks and handlers may have been declared since the last one.
        ledger = Ledger(self._database, self._worker, "carafe.testing", sorted(handlers()))
        rows, refused = await ledger.claim([Hinted(job_id, kind, b"")])
        for row, error in refused:
            claim = Claim(row, b"", time.monotonic())
            await ledger.write([Failed(claim, 0.0, "hook", "HookFailed", str(error), None, delay=5.0)])
            return True
        if not rows:
            return False
        claim = Claim(rows[0], b"", time.monotonic())
        version = claim.row["version"]
        if version > handlers()[kind].job.job_options.version:
            await ledger.write([Released(claim, 0.0, started=False)])
            raise NoHandler(kind, version)
        end = await self._run(claim)
        if type(end) is not Completed:
            await ledger.write([end])
        return True

    async def _run(self, claim: Claim) -> End:
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        found = [handler for handler in handlers().values() if handler.mode == "process"]
        children = Children(
            sorted({handler.job.__module__ for handler in found}), sorted({handler.function.__module__ for handler in found})
        )
        job_log = JobLog(sys.stderr)
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
            job_log.flush()


def _default(setting: str) -> float:
    default: Any = Settings.model_fields[setting].default
    return float(default)


async def attempt_all(executor: Executor, jobs: Sequence[tuple[UUID, str]]) -> list[UUID]:
    """Run one attempt of each job, in order. Returns the ids of the jobs that could be claimed. Raises like
    `Executor.attempt`."""
    return [job_id for job_id, kind in jobs if await executor.attempt(job_id, kind)]
