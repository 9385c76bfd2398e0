"""JSON as it is stored and shown. Carafe accepts only values that every reader keeps unchanged, and can show any value that
is stored.

Readers differ. Postgres and Python keep integers of any size, orjson only those of 64 bits. Only Python knows NaN and
Infinity. Each reader has its own limit for the depth of nesting. So:

1. `fault_of` checks all arguments, edits and results, and refuses a value that one of the readers would change.
2. `readable` reads anything that a row holds, and `written` turns its answer into JSON again; neither ever raises.
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
"""The least and the greatest integer that Carafe accepts in JSON. Each fits into 64 bits."""

DEEPEST = 200
"""The deepest nesting of lists and objects that is accepted. pydantic and orjson write about 250 levels, and an answer of
the API adds a few."""

NOT_FINITE = "holds NaN or Infinity, which JSON does not have: send null, or a text"
BEYOND_64_BITS = "holds an integer beyond 64 bits, which not every reader could keep: send it as a text"
TOO_DEEP = f"is nested more than {DEEPEST} deep"

_LONG_NUMBER = re.compile(r"[0-9]{19}")
_EXPONENT = re.compile(r"e(?<=[0-9]e)\+?[1-9]")
_LARGE_FLOAT = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9]+)(\.[0-9]+)?e\+?([1-9][0-9]*)', re.DOTALL)


def fault_of(text: str) -> str | None:
    """A text that says why this JSON text cannot be stored, or None if it can be stored. `text` was written by pydantic or
    orjson."""
    suspicious = "NaN" in text or "Infinity" in text or _LONG_NUMBER.search(text) is not None
    if suspicious:
        try:
            json.loads(text, parse_constant=_refuse_constant, parse_int=_bounded)
        except _Refused as found:
            return str(found)
        except (ValueError, RecursionError):
            return TOO_DEEP
    return TOO_DEEP if too_deep(text) else None


def floats_kept(text: str) -> str:
    """Returns `text` with large floats (1e16) written with all their digits and a fraction (10000000000000000.0). `text` is
    JSON that pydantic or orjson wrote.

    Postgres does not keep exponents: it would return 1e16 as an integer, which may need more than 64 bits. It does keep a
    fraction.
    """
    return text if _EXPONENT.search(text) is None else _LARGE_FLOAT.sub(_with_digits, text)


def _with_digits(found: re.Match[str]) -> str:
    if found[3] is None:
        return found[0]  # a text
    fraction = (found[2] or ".")[1:]
    exponent = int(found[3])
    return found[1] + fraction[:exponent].ljust(exponent, "0") + "." + (fraction[exponent:] or "0")


def doubled_key(text: str) -> str | None:
    """A name that occurs twice in the same object of this JSON text, so that one of its two values would be lost. Returns
    None if there is no such name. `text` is JSON that pydantic or orjson wrote."""
    try:
        # An object that has a name twice has fewer names when it is read and written again.
        if orjson.dumps(orjson.loads(text)).count(b'":') == text.count('":'):
            return None
        json.loads(text, object_pairs_hook=_unique)
    except _Doubled as found:
        return str(found)
    except (ValueError, RecursionError):
        pass  # `fault_of` says what is wrong
    return None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _Doubled(name)
        seen.add(name)


def doubled(key: str) -> str:
    """The error message for `key`, a name that `doubled_key` has found twice in one object."""
    return f"holds a dictionary with two keys that are both {key[:100]!r} in JSON: one value would be lost"


def too_deep(text: str) -> bool:
    """Whether JSON text has lists and objects nested deeper than `DEEPEST`."""
    return len(text) > DEEPEST and text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST


def not_finite(value: Any) -> str | None:
    """The path (`items.0.price`) of a number in plain data that is NaN or infinite, or None if every number is finite. The
    path is empty if `value` itself is such a number.

    orjson silently turns such a number into null, so call this function when the JSON contains a null.
    """
    return next((path for path, inner in _walk(value) if isinstance(inner, float) and not math.isfinite(inner)), None)


def beyond_64_bits(value: Any) -> str | None:
    """The path (`items.0.price`) of an integer in plain data that does not fit into 64 bits, or None if all fit."""
    return next((path for path, inner in _walk(value) if isinstance(inner, int) and not SMALLEST <= inner <= LARGEST), None)


def parsed(text: str) -> Any:
    """The value of a JSON text that somebody typed. Integers keep every digit. Raises ValueError, whose message says in
    words what is wrong with the text."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except _Refused as found:
        raise ValueError(str(found)) from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def readable(text: str | bytes | None) -> Any:
    """The value of stored JSON. Integers keep every digit. Returns the text itself if it is nested deeper than `DEEPEST` or
    is not JSON, and None for None. Never raises."""
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
    """JSON text of values that `readable` returned, also inside dataclasses and next to UUIDs and times. Never raises for
    such values."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, default=_plain, option=options)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        text = json.dumps(_jsonable(value), default=str, ensure_ascii=False, indent=2 if indent else None)
        return text.encode("utf-8", "replace")


class _Refused(Exception):
    pass


class _Doubled(Exception):
    pass


def _refuse_constant(word: str) -> Any:
    raise _Refused(NOT_FINITE)


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:
        raise _Refused(BEYOND_64_BITS)
    return 0


def _integer(digits: str) -> int | float | str:
    """The number that these digits represent. Postgres writes a double such as 1e22 with all its digits. So an integer
    beyond 64 bits is read as a float if a float has exactly its value. More than 4,000 digits are returned as text."""
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
    """How many lists and objects are nested inside each other at the deepest place of a JSON text."""
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
    """Returns `value` with its dataclasses, mappings, tuples and special values replaced, so that the standard library's
    ``json`` writes it in the same way as orjson would."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _jsonable(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else _plain(value)
