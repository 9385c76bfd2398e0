"""The outcomes that a handler can choose besides returning a value. Raising an outcome means the same as returning it,
except in a block of ``ctx.transaction()``: there, raise it, since only that rolls the block back. After the block the job
has ended, and an outcome changes nothing.

A handler that returns any other value ends its job as ``succeeded``, with that value as the result. Any other exception
counts as an error: the attempt is used up, and the job is retried if attempts are left; otherwise it is ``dead``.

A `reason` may be any value and is kept as text: an exception becomes its class and message, bytes are read as UTF-8.
"""

from datetime import timedelta
from typing import Any

from carafe.jobs.delays import delay_of
from carafe.texts import reason_of

Seconds = float | int | timedelta


class Outcome(Exception):
    """The base class of the outcomes. Raise its subclasses, not this class."""


class Retry(Outcome):
    """Use up this attempt and try again, after the time `after` (seconds or a timedelta) or, if that is not given, after the
    usual backoff. If no attempt is left, the job becomes dead.

    Raises `InvalidOption` if `after` is more than ten years, or is not a duration.
    """

    def __init__(self, reason: Any = None, *, after: Seconds | None = None) -> None:
        self.reason = reason_of(reason, "the handler asked for a retry")
        super().__init__(self.reason)
        self.after = None if after is None else delay_of("Retry(after=)", after)


class Snooze(Outcome):
    """Run the job again after the time `for_` (seconds or a timedelta) without using up an attempt, for instance because
    something that the job needs is not ready yet.

    Raises `InvalidOption` if `for_` is more than ten years, or is not a duration.
    """

    def __init__(self, for_: Seconds, reason: Any = "") -> None:
        self.for_ = delay_of("Snooze()", for_)
        self.reason = reason_of(reason, "")
        super().__init__(self.reason or f"snoozed for {self.for_:g} s")


class Discard(Outcome):
    """End the job ``dead`` at once, however many attempts are left, because it can never succeed."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason_of(reason)
        super().__init__(self.reason)


class Cancel(Outcome):
    """End the job ``cancelled``, because it is no longer wanted."""

    def __init__(self, reason: Any = None) -> None:
        self.reason = reason_of(reason, "cancelled by its handler")
        super().__init__(self.reason)
