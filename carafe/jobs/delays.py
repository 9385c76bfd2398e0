"""How far ahead a job may be put off: ten years, the same for every way there is (enqueue, edit, snooze, retry).

Beyond that nothing is a plan any more, but a mistake in the units; and what Python, JavaScript and Postgres each can hold of
a time ends somewhere behind it.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from carafe.jobs.errors import InvalidOption
from carafe.texts import reason_of

MAX_DELAY = 10 * 366 * 86_400.0
"""Seconds ahead that a job may be put off at most: ten years. Statements that add a delay have the same bound, 316224000."""


def checked_delay(value: Any, option: str = "delay") -> float:
    """The delay in seconds. Raises `InvalidOption` for one that is negative, not a number, or more than ten years."""
    delay = _number(value)
    if not 0 <= delay <= MAX_DELAY:
        raise InvalidOption(option, f"must be from 0 seconds to ten years (got {reason_of(value)[:40]})")
    return delay


def delay_of(option: str, value: Any) -> float:
    """Seconds until a job runs again, at most ten years as for any job; what is past already is now.

    Raises `InvalidOption` for what is no such number (``nan`` and ``inf`` included, whatever type says them).
    """
    delay = _number(value)
    if not delay <= MAX_DELAY:
        raise InvalidOption(option, f"must be a number of seconds up to ten years (got {reason_of(value)[:100]})")
    return max(0.0, delay)


def _number(value: Any) -> float:
    """A duration in seconds. NaN, which is on no side of any bound, for what is none."""
    try:
        return float(value.total_seconds() if isinstance(value, timedelta) else value)
    except Exception:
        return math.nan


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
