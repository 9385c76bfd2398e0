"""How the dashboard writes numbers, durations, times and JSON: the filters of its templates.

Text only, never markup: what a filter returns is escaped by Jinja like any other value. Times are UTC everywhere, on
charts, in tables and in sentences, so that no page mixes two clocks. None is written as a dash.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from carafe.jobs.records import Count

NOTHING = "–"
_JSON_CHARACTERS = 200_000


def duration(seconds: float | None) -> str:
    """Seconds as people say them, in at most two units: 340 ms, 1.2 s, 4 min 12 s, 3 h 20 min, 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    sign, seconds = ("−", -seconds) if seconds < 0 else ("", seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms" if seconds >= 0.001 else f"{sign}under 1 ms"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f} s"
    for unit, size, small, small_size in (("s", 60, "", 1), ("min", 3600, "s", 1), ("h", 86400, "min", 60)):
        if round(seconds) < size:
            return sign + _two_units(seconds, unit, small, small_size)
    return sign + _two_units(seconds, "d", "h", 3600)


def _two_units(seconds: float, unit: str, small: str, small_size: int) -> str:
    size = {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    whole, rest = divmod(round(seconds / small_size) * small_size, size)
    return f"{whole:,} {unit} {rest // small_size} {small}" if small and rest else f"{whole:,} {unit}"


def number(value: float | None) -> str:
    """A whole number with thousands set apart: 12,345."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.0f}"


def count(value: Count | None) -> str:
    """A count; an estimated one is marked, and rounded where its last digits mean nothing: ≈ 12,345, ≈ 2.01 M."""
    if value is None:
        return NOTHING
    if not value.estimated:
        return f"{value.number:,}"
    return f"≈ {value.number / 1e6:,.2f} M" if value.number >= 1_000_000 else f"≈ {value.number:,}"


def rate(value: float | None) -> str:
    """So many a second: 12/s, 1.5/s, 0.02/s."""
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
    """A share between 0 and 1 as a whole number up to 100, whatever it is: for `<progress>`."""
    return f"{min(max(share, 0.0), 1.0) * 100:.0f}" if math.isfinite(share) else "0"


def iso(at: datetime) -> str:
    """The moment in ISO 8601, UTC, to milliseconds: what `<time datetime>` and the dashboard's addresses hold."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(at: datetime | None) -> str:
    """Date and time in UTC to the second: 2026-11-25 14:02:11 UTC."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: datetime | None) -> str:
    """The time of day in UTC: 14:02:11."""
    return NOTHING if at is None else at.astimezone(UTC).strftime("%H:%M:%S")


def ago(at: datetime | None, now: datetime) -> str:
    """How far from `now`, in one unit: just now, 3 min ago, in 2 h. static/times.js says the same."""
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
    raise AssertionError("a size of a second or more has a unit")


def short_id(value: UUID | str) -> str:
    """The end of an id, by which people tell jobs apart (the beginning of a UUIDv7 is the time)."""
    return f"…{str(value)[-8:]}"


def json_text(value: Any) -> str:
    """The value as indented JSON, cut at 200,000 characters and said so; words where it cannot be written."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    except RecursionError:
        return "nested too deeply to be shown"
    if len(text) > _JSON_CHARACTERS:
        return f"{text[:_JSON_CHARACTERS]}\n… cut here: {len(text):,} characters in all"
    return text


def scalar_text(value: Any) -> str:
    """One JSON value that holds no others, as JSON writes it (text with its quotation marks)."""
    return json.dumps(value, ensure_ascii=False, default=str)


class Cut(str):
    """In the place of what a tree leaves out: words, not a value."""

    __slots__ = ()


def kind_of(value: Any) -> str:
    """What a JSON value is: object, array, text, number, truth or null; or cut. For templates that draw JSON as a tree."""
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
    "clock": clock,
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
"""What the shell gives its Jinja environment: ``environment.filters.update(FILTERS)``."""
