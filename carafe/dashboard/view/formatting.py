"""The filters of the dashboard's templates: how numbers, durations, times and JSON are written.

Filters return text, never markup, so Jinja escapes it like any other value. All times are UTC, in charts, tables and
sentences, so that no page mixes two time zones. None is written as a dash.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from carafe.durations import measured
from carafe.jobs.records import Count
from carafe.store.humanize import attempt_number

NOTHING = "–"
_JSON_CHARACTERS = 200_000
_BEGINNING = 200


def duration(seconds: float | None) -> str:
    """A duration in at most two units: 340 ms, 1.2 s, 4 min 12 s, 3 h 20 min, 2 d 4 h."""
    return NOTHING if seconds is None else measured(seconds)


def number(value: float | None) -> str:
    """A whole number with separators between thousands: 12,345."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def count(value: Count | None) -> str:
    """A count. An estimated count is marked, and rounded from a million on: ≈ 12,345, ≈ 2.01 M."""
    if value is None:
        return NOTHING
    if not value.estimated:
        return f"{value.number:,}"
    return f"≈ {value.number / 1e6:,.2f} M" if value.number >= 1_000_000 else f"≈ {value.number:,}"


def rate(value: float | None) -> str:
    """A rate per second: 12/s, 1.5/s, 0.02/s."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size < 0.005:
        return "0/s"
    digits = 0 if size >= 9.95 else 1 if size >= 0.95 else 2
    return f"{value:,.{digits}f}/s"


def percent(share: float | None) -> str:
    """A share between 0 and 1 as percent: 42 %."""
    return NOTHING if share is None or not math.isfinite(share) else f"{share * 100:.0f} %"


def hundredths(share: float) -> str:
    """A share as a whole number from 0 to 100, for `<progress>`. A share below 0 counts as 0, one above 1 as 1."""
    return f"{min(max(share, 0.0), 1.0) * 100:.0f}" if math.isfinite(share) else "0"


def iso(at: datetime) -> str:
    """A time in ISO 8601, in UTC with milliseconds, for `<time datetime>` and the dashboard's URLs."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(at: datetime | None) -> str:
    """Date and time in UTC to the second: 2026-11-25 14:02:11 UTC."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short_line(line: str) -> str:
    """Returns a line of a stack, ``file:number in function``, with no more of the file's path than the last folder, so that
    number and function fit on a phone. Other lines stay as they are."""
    path, separator, rest = line.partition(":")
    parts = path.split("/")
    return line if not separator or len(parts) <= 3 else f"…/{'/'.join(parts[-2:])}:{rest}"


def clock(at: datetime | None) -> str:
    """The time of day in UTC: 14:02:11."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%H:%M:%S")


def ago(at: datetime | None, now: datetime) -> str:
    """How far `at` is from `now`, in one unit: just now, 3 min ago, in 2 h. static/times.js writes it the same way."""
    if at is None:
        return NOTHING
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    if size < 1:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if size >= length:
            amount = f"{int(size // length):,} {unit}"
            return f"{amount} ago" if seconds > 0 else f"in {amount}"
    raise AssertionError("not reached: one of the units fits")


def short_id(value: UUID | str) -> str:
    """The end of an id, which is enough to tell jobs apart. The beginning of a UUIDv7 is only the time."""
    return f"…{str(value)[-8:]}"


def json_text(value: Any) -> str:
    """The value as indented JSON. Longer JSON is cut after 200,000 characters, with a note that says so.

    A value that is nested too deeply to be written gives a sentence instead.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    except RecursionError:
        return "nested too deeply to be shown"
    if len(text) > _JSON_CHARACTERS:
        return f"{text[:_JSON_CHARACTERS]}\n… cut here: {len(text):,} characters in all"
    return text


def beginning(value: Any) -> str:
    """The beginning of a job's arguments on one line: ``to: "ana@example.com", copies: 2``. At most 200 characters."""
    text = ""
    for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
        try:
            written = json.dumps(inner, ensure_ascii=False, default=str)
        except RecursionError:
            written = "…"
        text += f"{', ' if text else ''}{name}{': ' if name else ''}{written[:_BEGINNING]}"
        if len(text) > _BEGINNING:
            return f"{text[: _BEGINNING - 1]}…"
    return text


def scalar_text(value: Any) -> str:
    """A JSON value that contains no others, as JSON (a text with its quotation marks)."""
    return json.dumps(value, ensure_ascii=False, default=str)


class Cut(str):
    """A note that a tree shows in place of values that it leaves out. It is not a JSON value."""

    __slots__ = ()


def kind_of(value: Any) -> str:
    """The type of a JSON value, for templates that draw JSON as a tree: object, array, text, number, truth or null.

    Returns "cut" for a `Cut`, the note in place of values that are left out.
    """
    match value:
        case Cut():
            return "cut"
        case None:
            return "null"
        case bool():
            return "truth"
        case int() | float():
            return "number"
        case dict():
            return "object"
        case list() | tuple():
            return "array"
        case _:
            return "text"


FILTERS: dict[str, Callable[..., str]] = {
    "ago": ago,
    "attempt_number": lambda job: str(attempt_number(job)),
    "beginning": beginning,
    "clock": clock,
    "short_line": short_line,
    "count_text": count,
    "duration": duration,
    "hundredths": hundredths,
    "iso": iso,
    "json_text": json_text,
    "kind_of": kind_of,
    "number": number,
    "percent": percent,
    "rate": rate,
    "scalar_text": scalar_text,
    "short_id": short_id,
    "stamp": stamp,
}
"""The filters by the names under which templates use them."""
