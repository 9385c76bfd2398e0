"""What comes over Redis and is not ours, said once a flood.

Guarantees: a flood of messages costs one line when it begins and one every `EVERY` seconds with their number, however many
they are; each is counted by the caller.
Must never: look at more of a message than its first bytes.
"""

import time
from collections import Counter
from collections.abc import Callable

import structlog

log = structlog.stdlib.get_logger("carafe.transport")

EVERY = 10.0
"""Seconds between two lines about the same thing."""

SHOWN = 200
"""Bytes of a message that the log shows."""

KINDS = 100
"""Reasons that are told apart; those of a hostile writer may be without end."""


class Refusals:
    """Counts what was refused, by reason, and logs it. Of one thread."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`event`: what the log calls it."""
        self._event, self._clock = event, clock
        self._waiting: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def refuse(self, reason: str, example: bytes = b"") -> None:
        """One more. `reason`: a few words, few of them different."""
        now = self._clock()
        reason = reason[:SHOWN]
        if reason not in self._said and len(self._said) >= KINDS:
            reason = "other reasons"
        if now - self._said.get(reason, float("-inf")) >= EVERY:
            self._say(reason, self._waiting.pop(reason, 0) + 1, now, example)
        else:
            self._waiting[reason] += 1

    def tell(self) -> None:
        """Log what has gathered, if it is time; called often."""
        if self._waiting:
            now = self._clock()
            for reason in [reason for reason in self._waiting if now - self._said[reason] >= EVERY]:
                self._say(reason, self._waiting.pop(reason), now, b"")

    def _say(self, reason: str, count: int, now: float, example: bytes) -> None:
        self._said[reason] = now
        shown = {"message": repr(example[:SHOWN])} if example else {}
        log.warning(self._event, reason=reason, count=count, **shown)
