"""What a handler can say besides returning a value: raise one of these, or return it; both mean the same.

A value ends the job ``succeeded`` with the value as its result. Any other exception is an error: the attempt is spent and
the job retries while attempts are left, else it is ``dead``.

A `reason` is kept as text, whatever is given: an exception becomes its class and message, bytes are read as UTF-8.
"""

from datetime import timedelta
from typing import Any

from carafe.jobs.delays import delay_of
from carafe.texts import reason_of

Seconds = float | int | timedelta


def seconds(value: Seconds) -> float:
    """A duration in seconds, from a number of seconds or a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


class Outcome(Exception):
    """The root of the outcomes; not raised itself."""


class Retry(Outcome):
    """Spend this attempt and try again: after `after` seconds, or by the usual backoff. Dead if none is left.

    Raises `InvalidOption` for an `after` of more than ten years, or that is no number.
    """

    def __init__(self, reason: Any = None, *, after: Seconds | None = None) -> None:
        self.reason = reason_of(reason, "the handler asked for a retry")
        super().__init__(self.reason)
        self.after = None if after is None else delay_of("Retry(after=)", after)


class Snooze(Outcome):
    """Run again in `for_` seconds without spending an attempt (the thing to work on is not ready yet).

    Raises `InvalidOption` for more than ten years, or what is no number.
    """

    def __init__(self, for_: Seconds, reason: Any = "") -> None:
        self.for_ = delay_of("Snooze()", for_)
        self.reason = reason_of(reason, "")
        super().__init__(self.reason or f"snoozed for {self.for_:g} s")


class Discard(Outcome):
    """End the job ``dead`` at once, whatever attempts are left: it can never succeed."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason_of(reason)
        super().__init__(self.reason)


class Cancel(Outcome):
    """End the job ``cancelled``: it is no longer wanted."""

    def __init__(self, reason: Any = None) -> None:
        self.reason = reason_of(reason, "cancelled by its handler")
        super().__init__(self.reason)
