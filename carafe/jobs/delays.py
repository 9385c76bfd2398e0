"""How far ahead a job may be put off: ten years, the same for every way there is (enqueue, edit, snooze, retry).

Beyond that nothing is a plan any more, but a mistake in the units; and what Python, JavaScript and Postgres each can hold of
a time ends somewhere behind it.
"""

from datetime import UTC, datetime, timedelta

from carafe.jobs.errors import InvalidOption

MAX_DELAY = 10 * 366 * 86_400.0
"""Seconds ahead that a job may be put off at most: ten years."""


def checked_delay(value: float | timedelta, option: str = "delay") -> float:
    """The delay in seconds. Raises `InvalidOption` for one that is negative, not a number, or more than ten years."""
    try:
        delay = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except (TypeError, ValueError, OverflowError):
        delay = float("nan")
    if not 0 <= delay <= MAX_DELAY:  # a NaN is on no side
        raise InvalidOption(option, f"must be from 0 seconds to ten years (got {str(value)[:40]})")
    return delay


def checked_moment(moment: datetime, option: str = "run_at") -> datetime:
    """The time in UTC. Raises `InvalidOption` for one without a zone, or more than ten years ahead."""
    if moment.tzinfo is None:
        raise InvalidOption(option, "needs a time zone (datetime.now(UTC) + ...)")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidOption(option, "is out of range") from None
    if (moment - datetime.now(UTC)).total_seconds() > MAX_DELAY:
        raise InvalidOption(option, "is more than ten years ahead")
    return moment
