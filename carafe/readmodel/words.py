"""Numbers and times in the words that sentences use."""

import math
from datetime import datetime


def seconds_in_words(seconds: float) -> str:
    """A duration, to two units: ``8 s``, ``2 min 5 s``, ``3 h 12 min``, ``2 d 4 h``; ``for ever`` for one without end."""
    if not math.isfinite(seconds):
        return "for ever"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    for unit, size, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("unreachable")


def clock(moment: datetime, now: datetime) -> str:
    """A time of UTC: ``14:02:09``, with its date when that is another day."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def number(value: int, estimated: bool = False) -> str:
    """``12,500``; ``about 12,500``."""
    return f"about {value:,}" if estimated else f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
