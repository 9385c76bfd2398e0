"""Stores what handlers logged: about once a second for what runs, and soon after the end of an attempt.

Guarantees: one statement for all that is due; nothing waits for it, no end and no drain for more than `LAST`; while Postgres
is away lines are kept, `MAX_WAITING` bytes at most, and stored when it is back.
Must never: fail or delay a job's end. It is best effort: what cannot be stored is dropped, and counted.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice

import structlog

from carafe.database import AWAY, Database
from carafe.engine.captured_logs import Tail
from carafe.engine.slot import Claim, Slot
from carafe.jobs import job_logs

log = structlog.stdlib.get_logger("carafe.job_logs")

EVERY = 1.0
"""Seconds between two flushes."""

AT_ONCE = 200
"""Claims in one statement."""

TIMEOUT = 5.0
"""Seconds that one flush may take."""

LAST = 2.0
"""Seconds that a drain waits for the last lines."""

MAX_WAITING = 16 << 20
"""Bytes of ended claims that wait to be stored."""


class LogWriter:
    """One worker's. Everything on the engine's loop."""

    def __init__(self, database: Database, running: Callable[[], Sequence[Slot]], counts: Counter[str]) -> None:
        """`running` gives the slots that run a job; `counts` gets what was dropped."""
        self._database, self._running, self._counts = database, running, counts
        self._waiting: deque[tuple[Claim, Tail, bool]] = deque()
        self._bytes = 0
        self._complained = False

    def ended(self, claim: Claim, tail: Tail, *, failed: bool) -> None:
        """An attempt is over that has logged something."""
        tail.over = True
        self._waiting.append((claim, tail, failed))
        self._bytes += tail.size
        while self._bytes > MAX_WAITING:
            _, dropped, _ = self._waiting.popleft()
            self._bytes -= dropped.size
            self._counts["job logs dropped"] += 1

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.flush()
            except Exception:
                # Nobody foresaw it, and jobs must not notice: what was due is dropped with its next flush.
                log.exception("job logs not stored")

    async def finish(self) -> None:
        """The last lines, before the engine ends."""
        try:
            async with asyncio.timeout(LAST):
                await self.flush()
        except Exception as error:
            log.warning("job logs not stored", error=type(error).__name__)
        if self._waiting:
            log.warning("job logs dropped at the end", jobs=len(self._waiting))

    async def flush(self) -> None:
        """Store what is due, unless Postgres is away: then it stays due."""
        while self._waiting:
            batch = list(islice(self._waiting, AT_ONCE))
            if not await self._store(batch):
                return
            for claim_and_tail in batch:
                # Those at the head may have been dropped meanwhile.
                if self._waiting and self._waiting[0] is claim_and_tail:
                    self._waiting.popleft()
                    self._bytes -= claim_and_tail[1].size
        claims = [slot.claim for slot in self._running() if slot.claim is not None]
        await self._store([(claim, claim.tail, False) for claim in claims if claim.tail is not None])

    async def _store(self, tails: Sequence[tuple[Claim, Tail, bool]]) -> bool:
        """Whether this is done with: False when it should be tried again."""
        due = [(tail, chunk) for claim, tail, failed in tails if (chunk := tail.chunk(claim, failed=failed))]
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
        """Postgres will not take them however often they are tried."""
        self._counts["job logs dropped"] += len(due)
        self._complain(error)

    def _complain(self, error: BaseException) -> None:
        """Once until it works again."""
        if not self._complained:
            log.warning("job logs not stored", error=f"{type(error).__name__}: {error}"[:300])
        self._complained = True
