"""Reads durations as people write them (``90``, ``5m``, ``2h``) as seconds, and writes seconds as text (``4 min 12 s``)."""

import math
import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")


def parse(text: str) -> float | None:
    """The seconds that a text such as 30, 30s, 5m, 5min, 2h or 1d means. Returns None for a text of any other form."""
    found = _FORM.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNITS[found[2] or ""]


def in_words(seconds: float) -> str:
    """The duration as text for a sentence, in whole seconds or larger units: ``8 s``, ``2 min 5 s``, ``3 h 12 min``, ``2 d 4
    h``. Returns ``forever`` if `seconds` is infinite or NaN."""
    return _two_units(max(0.0, seconds)) if math.isfinite(seconds) else "forever"


def measured(seconds: float) -> str:
    """The duration as text for a table or chart: ``12 s``, ``4 min 12 s``. Below ten seconds it is more exact: ``340 ms``,
    ``1.2 s``. Returns ``–`` if `seconds` is infinite or NaN."""
    if not math.isfinite(seconds):
        return "–"
    sign, seconds = ("−", -seconds) if seconds < 0 else ("", seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms" if seconds >= 0.001 else f"{sign}under 1 ms"
    return f"{sign}{seconds:.1f} s" if seconds < 9.95 else sign + _two_units(seconds)


def _two_units(seconds: float) -> str:
    """The duration in its two largest units, rounded to the smaller of them: ``4 min 12 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return _joined(whole, "min", 60, "s", 1)
    if whole < 86_400:
        return _joined(seconds, "h", 3_600, "min", 60)
    return _joined(seconds, "d", 86_400, "h", 3_600)


def _joined(seconds: float, unit: str, size: int, smaller: str, part: int) -> str:
    many, rest = divmod(round(seconds / part) * part, size)
    return f"{many:,} {unit} {rest // part} {smaller}" if rest else f"{many:,} {unit}"
