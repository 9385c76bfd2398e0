"""How far ahead a job may be scheduled: ten years, for every way of scheduling (enqueue, edit, snooze, retry). A longer
delay is more likely a mistake in the units. Also, not all of Python, JavaScript and Postgres can represent times that are
much further ahead."""

import math
from datetime import UTC, datetime
from typing import Any

from carafe.jobs.errors import InvalidOption
from carafe.jobs.numbers import number_of_seconds
from carafe.texts import shown

MAX_DELAY = 10 * 366 * 86_400.0
"""The maximum number of seconds ahead that a job may be scheduled: ten years. SQL statements that add a delay repeat this
number, 316224000."""


def checked_delay(value: Any, option: str = "delay") -> float:
    """The delay in seconds. Raises `InvalidOption` for a delay that is negative, not a number, or more than ten years."""
    if type(value) in (int, float) and 0 <= value <= MAX_DELAY:
        return float(value)  # the usual case, thousands of times in a bulk
    delay = number_of_seconds(value)
    if not 0 <= delay <= MAX_DELAY:
        wanted = ", a number of seconds or a timedelta" if math.isnan(delay) else ""
        raise InvalidOption(option, f"must be from 0 seconds to ten years{wanted} (got {shown(value)})")
    return delay


def delay_of(option: str, value: Any) -> float:
    """The delay in seconds until a job runs again. A negative delay counts as 0.

    Raises `InvalidOption` for a delay of more than ten years, and for a value that is not a number of seconds (``nan``).
    """
    delay = number_of_seconds(value)
    if not delay <= MAX_DELAY:
        raise InvalidOption(option, f"must be a number of seconds up to ten years (got {shown(value)})")
    return max(0.0, delay)


def zoned(moment: Any, option: str) -> datetime:
    """Returns `moment`. Raises `InvalidOption` if it is not a `datetime`, or has no time zone."""
    if not isinstance(moment, datetime):
        raise InvalidOption(option, f"must be a datetime with a time zone (got {shown(moment)})")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidOption(option, "needs a time zone (datetime.now(UTC) + ...)")
    return moment


def checked_moment(moment: datetime, option: str = "run_at") -> datetime:
    """Returns `moment` in UTC. Raises `InvalidOption` if it is not a `datetime`, has no time zone, or is more than ten years
    ahead."""
    zoned(moment, option)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidOption(option, "is out of range") from None
    if (moment - datetime.now(UTC)).total_seconds() > MAX_DELAY:
        raise InvalidOption(option, "is more than ten years ahead")
    return moment
