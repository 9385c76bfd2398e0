"""What a handler can say besides returning a value: raise one of these, or return it; both mean the same.

A value ends the job ``succeeded`` with the value as its result. Any other exception is an error: the attempt is spent and
the job retries while attempts are left, else it is ``dead``.
"""

from datetime import timedelta

Seconds = float | int | timedelta


def seconds(value: Seconds) -> float:
    """A duration in seconds, from a number of seconds or a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


class Outcome(Exception):
    """The root of the outcomes; not raised itself."""


class Retry(Outcome):
    """Spend this attempt and try again: after `after` seconds, or by the usual backoff. Dead if none is left."""

    def __init__(self, reason: str = "the handler asked for a retry", *, after: Seconds | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = None if after is None else max(0.0, seconds(after))


class Snooze(Outcome):
    """Run again in `for_` seconds without spending an attempt (the thing to work on is not ready yet)."""

    def __init__(self, for_: Seconds, reason: str = "") -> None:
        super().__init__(reason or f"snoozed for {seconds(for_):g} s")
        self.for_ = max(0.0, seconds(for_))
        self.reason = reason


class Discard(Outcome):
    """End the job ``dead`` at once, whatever attempts are left: it can never succeed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cancel(Outcome):
    """End the job ``cancelled``: it is no longer wanted."""

    def __init__(self, reason: str = "cancelled by its handler") -> None:
        super().__init__(reason)
        self.reason = reason
