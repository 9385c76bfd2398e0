"""JSON as it is stored and shown: what every side can carry gets in, and whatever got in can be read and shown.

One side's JSON is not another's: Postgres keeps integers of any size and Python reads them, orjson writes 64 bits; NaN and
Infinity are Python's alone; each has its own depth at which it gives up. So:

1. `fault_of` refuses at every entry (arguments, edits, results) what one of them could not carry unchanged.
2. `readable` reads whatever a row holds, by whomever it was written, and `written` writes that again; neither ever raises.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""Integers that JSON of this system holds: what 64 bits do."""

DEEPEST = 200
"""Lists and objects inside each other at most: pydantic and orjson write some 250, and an answer wraps them in a few."""

NOT_FINITE = "holds NaN or Infinity, which JSON does not have: send null, or a text"
BEYOND_64_BITS = "holds an integer beyond 64 bits, which not every reader could keep: send it as a text"
TOO_DEEP = f"is nested more than {DEEPEST} deep"

_LONG_NUMBER = re.compile(r"[0-9]{19}")


def fault_of(text: str) -> str | None:
    """Why this JSON text cannot be kept, in words; None: it can. `text` is as pydantic or orjson writes it."""
    suspicious = "NaN" in text or "Infinity" in text or _LONG_NUMBER.search(text) is not None
    if suspicious:
        try:
            json.loads(text, parse_constant=_refuse_constant, parse_int=_bounded)
        except _Refused as found:
            return str(found)
        except (ValueError, RecursionError):
            return TOO_DEEP
    return TOO_DEEP if too_deep(text) else None


def too_deep(text: str) -> bool:
    """Whether JSON text is nested beyond `DEEPEST`."""
    return text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST


def not_finite(value: Any) -> str | None:
    """The path of a number in plain data that is not finite (`items.0.price`, empty for itself); None: there is none.

    Whoever writes JSON turns such a number into null without a word: ask where the result has one.
    """
    return next((path for path, inner in _walk(value) if isinstance(inner, float) and not math.isfinite(inner)), None)


def beyond_64_bits(value: Any) -> str | None:
    """The path of an integer in plain data that 64 bits do not hold; None: there is none."""
    return next((path for path, inner in _walk(value) if isinstance(inner, int) and not SMALLEST <= inner <= LARGEST), None)


def parsed(text: str) -> Any:
    """The value of JSON that somebody typed, integers with every digit. Raises ValueError in words."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except _Refused as found:
        raise ValueError(str(found)) from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def readable(text: str | bytes | None) -> Any:
    """The value of stored JSON; what is nested beyond `DEEPEST` is its text. Integers keep every digit. Never raises."""
    if text is None:
        return None
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if too_deep(plain):
        return plain
    try:
        if _LONG_NUMBER.search(plain) is None:
            return orjson.loads(plain)
        return json.loads(plain, parse_int=_integer, parse_float=_number)
    except (ValueError, RecursionError):
        return plain


def written(value: Any, *, indent: bool = False) -> bytes:
    """JSON of what `readable` gave, in records, dataclasses, with UUIDs and times. Never raises for such."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=_plain, option=options)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        text = json.dumps(_jsonable(value), default=str, ensure_ascii=False, indent=2 if indent else None)
        return text.encode("utf-8", "replace")


class _Refused(Exception):
    pass


def _refuse_constant(word: str) -> Any:
    raise _Refused(NOT_FINITE)


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:
        raise _Refused(BEYOND_64_BITS)
    return 0


def _integer(digits: str) -> int | float | str:
    """An integer of any size. Postgres writes out a double such as 1e22, which has to stay one."""
    if len(digits) > 4_000:
        return digits  # more than Python reads
    value = int(digits)
    if SMALLEST <= value <= LARGEST:
        return value
    try:
        double = float(digits)
        return double if math.isfinite(double) and Decimal(repr(double)) == value else value
    except (OverflowError, InvalidOperation):
        return value


def _number(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _depth(text: str) -> int:
    """How deep lists and objects stand inside each other in JSON text."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        mark = found[0][0]
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    waiting: list[tuple[str, Any]] = [(path, value)]
    while waiting:
        place, inner = waiting.pop()
        yield place, inner
        prefix = f"{place}." if place else ""
        if isinstance(inner, Mapping):
            waiting += [(f"{prefix}{name}", one) for name, one in inner.items()]
        elif isinstance(inner, list | tuple | set | frozenset):
            waiting += [(f"{prefix}{index}", one) for index, one in enumerate(inner)]


def _plain(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _jsonable(value: Any) -> Any:
    """The same without what the standard library does not write as orjson does."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _jsonable(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else _plain(value)
