"""Logs messages that other programs have written into Redis, without flooding the log.

Guarantees: a flood of messages costs one log line when it begins, and then one line every `EVERY` seconds with their number.
The caller counts every message.
Must never: read more of a message than its first bytes.
"""

import time
from collections import Counter
from collections.abc import Callable

from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.transport")

EVERY = 10.0
"""Seconds between two log lines about the same reason."""

SHOWN = 200
"""The number of bytes at the beginning of a message that the log shows."""

KINDS = 100
"""The maximum number of reasons that are counted separately, since a hostile client could make up any number of them."""


class Refusals:
    """Counts refused messages by reason, and logs them. Only one thread may use an object of this class."""

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`event` is the text of the log lines. `clock` returns seconds."""
        self._event, self._clock = event, clock
        self._waiting: Counter[str] = Counter()
        self._said: dict[str, float] = {}

    def refuse(self, reason: str, example: bytes = b"") -> None:
        """Count a refused message. Also log it, unless a line with the same reason was logged in the last `EVERY` seconds.
        `reason` is a few words; callers should use only few different reasons."""
        now = self._clock()
        reason = reason[:SHOWN]
        if reason not in self._said and len(self._said) >= KINDS:
            reason = "other reasons"
        if now - self._said.get(reason, float("-inf")) >= EVERY:
            self._say(reason, self._waiting.pop(reason, 0) + 1, now, example)
        else:
            self._waiting[reason] += 1

    def tell(self) -> None:
        """Log the messages that have been counted and not logged, if it is time. Call this often."""
        if self._waiting:
            now = self._clock()
            for reason in [reason for reason in self._waiting if now - self._said[reason] >= EVERY]:
                self._say(reason, self._waiting.pop(reason), now, b"")

    def _say(self, reason: str, count: int, now: float, example: bytes) -> None:
        self._said[reason] = now
        shown = {"message": repr(example[:SHOWN])} if example else {}
        log.warning(self._event, reason=reason, count=count, **shown)
