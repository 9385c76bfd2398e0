"""Stores what handlers logged: about once a second for running jobs, and soon after the end of an attempt.

Guarantees: one statement stores the lines of up to `AT_ONCE` claims; no end of a job waits for that, and a drain waits for
it at most `LAST` seconds; while Postgres is away, at most `MAX_WAITING` bytes of lines are kept, to be stored when it is
back.
Must never: fail or delay a job's end. Storing is best effort: lines that cannot be stored are dropped, and counted.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice

from carafe.engine.claim import Claim
from carafe.engine.log_tail import Tail
from carafe.engine.slot import Slot
from carafe.store import job_logs
from carafe.store.database import AWAY, Database
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.job_logs")

EVERY = 1.0
"""Seconds between two times at which log lines are stored."""

AT_ONCE = 200
"""The maximum number of claims whose lines one statement stores."""

TIMEOUT = 5.0
"""Seconds that the statement which stores log lines may take."""

LAST = 2.0
"""The maximum number of seconds that a drain waits until the last lines are stored."""

MAX_WAITING = 16 << 20
"""The maximum number of bytes of ended claims' lines that wait to be stored. Beyond that the oldest are dropped."""


class LogWriter:
    """Stores the job logs of one worker. Used on the engine's loop."""

    def __init__(self, database: Database, slots: Sequence[Slot], counts: Counter[str]) -> None:
        """`slots` are the runner's. The writer counts in `counts` the job logs that were dropped."""
        self._database, self._slots, self._counts = database, slots, counts
        self._waiting: deque[tuple[Claim, Tail, bool]] = deque()
        self._bytes = 0
        self._complained = False

    def ended(self, claim: Claim, tail: Tail, *, failed: bool) -> None:
        """Take over the lines of an attempt that has ended, to store them soon."""
        tail.over = True
        self._waiting.append((claim, tail, failed))
        self._bytes += tail.size
        while self._bytes > MAX_WAITING:
            _, dropped, _ = self._waiting.popleft()
            self._bytes -= dropped.size
            self._counts["job logs dropped"] += 1

    async def run(self) -> None:
        """Store the lines that are due every `EVERY` seconds, forever."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.flush()
            except Exception:
                # Unexpected, and jobs must not notice: what was due is dropped with its next flush.
                log.exception("job logs not stored")

    async def finish(self) -> None:
        """Store the last lines before the engine ends, within `LAST` seconds."""
        try:
            async with asyncio.timeout(LAST):
                await self.flush()
        except Exception as error:
            log.warning("job logs not stored", error=type(error).__name__)
        if self._waiting:
            log.warning("job logs dropped at the end", jobs=len(self._waiting))

    async def flush(self) -> None:
        """Store the lines that are due. They stay due while Postgres is away."""
        while self._waiting:
            batch = list(islice(self._waiting, AT_ONCE))
            if not await self._store(batch):
                return
            for claim_and_tail in batch:
                # Those at the head may have been dropped meanwhile.
                if self._waiting and self._waiting[0] is claim_and_tail:
                    self._waiting.popleft()
                    self._bytes -= claim_and_tail[1].size
        claims = [slot.claim for slot in self._slots if slot.claim is not None]
        await self._store([(claim, claim.tail, False) for claim in claims if claim.tail is not None])

    async def _store(self, tails: Sequence[tuple[Claim, Tail, bool]]) -> bool:
        """Store the lines of these claims, or drop them. Returns False if neither was possible, so that the caller must try
        again."""
        due = [
            (tail, chunk)
            for claim, tail, failed in tails
            if (chunk := tail.chunk(claim.id, claim.fence, claim.attempt, failed=failed))
        ]
        if not due:
            return True
        try:
            async with asyncio.timeout(TIMEOUT), self._database.connection() as connection:
                await job_logs.write(connection, [chunk for _, chunk in due])
        except AWAY as error:
            if not isinstance(error, ValueError):
                self._complain(error)
                return False
            self._drop(due, error)
        except Exception as error:
            self._drop(due, error)
        else:
            self._complained = False
        for tail, chunk in due:
            tail.stored(chunk)
        return True

    def _drop(self, due: Sequence[tuple[Tail, job_logs.Chunk]], error: BaseException) -> None:
        """Drop lines that Postgres refuses, since it would refuse them again, and count them as dropped."""
        self._counts["job logs dropped"] += len(due)
        self._complain(error)

    def _complain(self, error: BaseException) -> None:
        """Log the error, unless an error was logged already since lines could last be stored."""
        if not self._complained:
            log.warning("job logs not stored", error=f"{type(error).__name__}: {error}"[:300])
        self._complained = True
