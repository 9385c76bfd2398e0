"""Gives back the hints of jobs that this worker does not run. They return to the end of the list from which they were
popped, so that the autoscaler sees them. If a job is left to other workers, its hint is pushed only after a pause, which
grows each time.

Guarantees: nothing waits until hints have been given back, except the end of the engine, for `LAST` seconds at most. Giving
back is best effort: if a hint is lost here, the steward pushes it again.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from carafe.engine.aside import Aside
from carafe.engine.claim import Claim
from carafe.engine.completions import Released
from carafe.engine.ledger import Hinted, Ledger
from carafe.engine.tasks import Tasks
from carafe.queue.hints import Hint, encode, stamp_of
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.engine")

LAST = 5.0
"""The maximum number of seconds that the engine waits at its end until hints have been given back."""


class Consumer(Protocol):
    """What the engine needs from Celery's consumer. The methods may be called from any thread."""

    channel: Any
    """The channel that pops hints. The channel sets this itself."""

    def wake(self) -> None:
        """Make the consumer pop hints again, because the engine has room for more."""
        ...

    def push_back(self, messages: Sequence[bytes]) -> None:
        """Put hints back at the end of the list from which they were popped. The first of them will be popped first."""
        ...

    def stop_taking(self) -> None:
        """End the pop that is waiting in Redis. Hints that it has popped already still reach `Engine.take`, which pushes
        them back."""
        ...


class HintReturns:
    """Gives back the hints of one worker. Used on the engine's loop."""

    def __init__(self, ledger: Ledger, aside: Aside, consumer: Callable[[], Consumer | None], counts: Counter[str]) -> None:
        """The function `consumer` returns the `Consumer`, or None before there is one."""
        self._ledger, self._aside, self._consumer, self._counts = ledger, aside, consumer, counts
        self._tasks = Tasks()

    def push(self, messages: Sequence[bytes]) -> None:
        """Push these messages back in the background. Empty messages, which stand for claims without a hint, are skipped."""
        self._tasks.spawn(self._push_back(messages))

    def released(self, ends: Sequence[Released]) -> None:
        """Give back the hints of jobs that are queued again. This happens in the background, since Redis may be slow."""
        if ends:
            self._tasks.spawn(self._hints_of(ends))

    def defer(self, hints: Sequence[Hinted]) -> None:
        """Leave the jobs of these hints to other workers."""
        self._tasks.spawn(self._ledger.defer(hints))

    def unheld(self, ids: Sequence[UUID]) -> None:
        """Queue these jobs again and push their hints: according to Postgres they run on this worker, but it does not hold
        them."""
        self._tasks.spawn(self._hand_back(ids))

    async def finish(self) -> None:
        """Wait until all hints have been given back, for `LAST` seconds at most."""
        await self._tasks.wait(LAST)

    async def _hints_of(self, released: Sequence[Released]) -> None:
        try:
            for longest in {end.defer for end in released}:
                claims = [end.claim for end in released if end.defer == longest]
                if longest is None:
                    await self._push_back([claim.raw for claim in claims])
                else:
                    await self._ledger.defer([_hinted(claim) for claim in claims], longest=longest)
        except Exception:
            log.exception("hints not given back; the steward will push them", jobs=len(released))

    async def _hand_back(self, ids: Sequence[UUID]) -> None:
        """Queue jobs again that Postgres has given to this worker in a reply that was lost, and push their hints."""
        rows = await self._ledger.hand_back(ids)
        if not rows:
            return  # known meanwhile, or Postgres is away: the next beat says so again
        hints = [Hint(row["id"], row["kind"], stamp_of(row["hinted_at"])) for row in rows if row["hinted_at"]]
        await self._push_back([encode(hint) for hint in hints])
        self._counts["claims handed back"] += len(rows)
        log.warning("handed back claims whose replies were lost", jobs=len(rows))

    async def _push_back(self, messages: Sequence[bytes]) -> None:
        hints = [message for message in messages if message]
        consumer = self._consumer()
        if hints and consumer is not None:
            await self._aside.call(consumer.push_back, hints)


def _hinted(claim: Claim) -> Hinted:
    return Hinted(claim.id, claim.kind, claim.raw)
