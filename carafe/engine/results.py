"""A handler's return value as JSON text, within its limit, by the rules that arguments are accepted by."""

import json
import math
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import CoroutineType
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from carafe.jobs.definition import has_nul
from carafe.jobs.errors import PayloadTooLarge
from carafe.texts import class_name, in_words

PLAIN = frozenset({dict, list, str, int, float, bool})

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""The integers that every reader of a result gets as they are: what 64 bits hold."""

_SUSPICIOUS = re.compile(rb"\d{19}|NaN|Infinity")
"""What pydantic may write and JSON, or a reader of it, does not know; in a text it may stand as well."""


NOT_A_NUMBER = "the result holds NaN or infinity, which JSON has no number for: return None or a text"


class ResultNotUsable(TypeError):
    """A handler returned what JSON in Postgres cannot hold."""


def encode_result(value: Any, limit: int) -> str | None:
    """The result as JSON text (None for None): what JSON holds, pydantic models, dataclasses, dates, UUIDs.

    `limit` in bytes. Raises `ResultNotUsable` (for NaN, infinity and integers beyond 64 bits too, which are no JSON that
    every reader understands) or `PayloadTooLarge`.
    """
    if value is None:
        return None
    try:
        data = _written(value)
        if len(data) <= limit:
            # A child process has written and checked what is a fragment here.
            if (
                b"null" in data
                and type(value) is not orjson.Fragment
                and _has_nan(to_jsonable_python(value, inf_nan_mode="constants"))
            ):
                raise ResultNotUsable(NOT_A_NUMBER)
            if b"\\u0000" in data and has_nul(orjson.loads(data)):
                raise ResultNotUsable("the result holds a text with the NUL character, which Postgres cannot store")
            return data.decode()
    except ResultNotUsable:
        raise
    except Exception as error:
        # What a serializer of the application's own raises, too.
        words = f"the result ({class_name(value)}) cannot be written as JSON: {in_words(error)}"
        raise ResultNotUsable(words) from None
    raise PayloadTooLarge("the result's fields", len(data), limit, "JOB_RESULT_LIMIT")


def _written(value: Any) -> bytes:
    # By its true type: what an object says of its class may be anything. Plain data first: asking whether it is a model
    # costs more than writing it.
    kind = type(value)
    if kind in PLAIN or not issubclass(kind, BaseModel):
        if issubclass(kind, Coroutine | Iterator | AsyncIterator):
            if kind is CoroutineType:
                value.close()
            raise ResultNotUsable(
                f"the handler returned a {class_name(value)}, which nobody awaits or iterates: "
                "declare it `async def` without `yield`, or return a list"
            )
        try:
            return orjson.dumps(value)
        except TypeError:
            data = to_json(value)
    else:
        data = value.__pydantic_serializer__.to_json(value)
    # orjson takes 64 bits and no more; pydantic any integer, and NaN where a model is configured so.
    if _SUSPICIOUS.search(data):
        json.loads(data, parse_int=_within_64_bits, parse_constant=_no_number)
    return data


def _within_64_bits(digits: str) -> int:
    if len(digits) > 20 or not SMALLEST <= (number := int(digits)) <= LARGEST:
        raise ResultNotUsable(
            "the result holds an integer beyond 64 bits, which not every reader gets as it is: return a text"
        )
    return number


def _no_number(_: str) -> None:
    raise ResultNotUsable(NOT_A_NUMBER)


def _has_nan(data: Any) -> bool:
    """Whether a number anywhere in JSON-like data is NaN or infinite: orjson writes null for it."""
    if isinstance(data, float):
        return not math.isfinite(data)
    if isinstance(data, dict):
        return any(map(_has_nan, data.values())) or any(map(_has_nan, data))
    return isinstance(data, list) and any(map(_has_nan, data))
