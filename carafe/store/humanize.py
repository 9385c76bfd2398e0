"""Numbers and times as text for sentences."""

from datetime import datetime


def clock(moment: datetime, now: datetime) -> str:
    """A time as text: ``14:02:09``, or with its date if that is not the date of `now`."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def number(value: int, estimated: bool = False) -> str:
    """A number as text: ``12,500`` or, if it is estimated, ``about 12,500``."""
    return f"about {value:,}" if estimated else f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """A number with its noun: ``1 job``, ``2 jobs``. `many` is the plural if it is not `one` with an s."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"
