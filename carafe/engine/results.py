"""Writes a handler's return value as JSON text, within a limit of size and by the same rules as arguments."""

from collections.abc import AsyncIterator, Coroutine, Iterator
from types import CoroutineType
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from carafe.jobs.definition import has_nul
from carafe.jobs.errors import PayloadTooLarge
from carafe.jobs.round_trip import has_any_keys
from carafe.jobs.stored_json import NOT_FINITE, doubled, doubled_key, fault_of, floats_kept, not_finite
from carafe.texts import class_name, in_words

PLAIN = frozenset({dict, list, str, int, float, bool})


class ResultNotUsable(TypeError):
    """Raised when a handler returned a value that JSON in Postgres cannot hold."""


def encode_result(value: Any, limit: int) -> str | None:
    """Returns the value as JSON text, or None if the value is None. Values may be what JSON holds, pydantic models,
    dataclasses, dates and UUIDs.

    Raises `PayloadTooLarge` when the text is longer than `limit` bytes, and `ResultNotUsable` when the value cannot be
    written. NaN, infinity and integers beyond 64 bits are refused too, since not every reader of JSON understands them.
    """
    if value is None:
        return None
    try:
        data, other_keys = _written(value)
        if len(data) <= limit:
            # A child process has written and checked what is a fragment here.
            if (
                b"null" in data
                and type(value) is not orjson.Fragment
                and not_finite(to_jsonable_python(value, inf_nan_mode="constants", fallback=str)) is not None
            ):
                raise ResultNotUsable(f"the result {NOT_FINITE}")
            text = data.decode()
            if other_keys and (key := doubled_key(text)) is not None:
                raise ResultNotUsable(f"the result {doubled(key)}")
            # Short texts can be neither too deep nor hold a number that is too long.
            if len(data) > 18 and (fault := fault_of(text)) is not None:
                raise ResultNotUsable(f"the result {fault}")
            if b"\\u0000" in data and has_nul(orjson.loads(data)):
                raise ResultNotUsable("the result holds a text with the NUL character, which Postgres cannot store")
            return floats_kept(text)
    except ResultNotUsable:
        raise
    except Exception as error:
        # What a serializer of the application's own raises, too.
        words = f"the result ({class_name(value)}) cannot be written as JSON: {in_words(error)}"
        raise ResultNotUsable(words) from None
    raise PayloadTooLarge("the result's fields", len(data), limit, "JOB_RESULT_LIMIT")


def _written(value: Any) -> tuple[bytes, bool]:
    """Returns two values: the value as JSON, and whether it may hold dictionaries with keys that are not texts. (Two such
    keys may be equal in JSON.)"""
    # By its true type: what an object says of its class may be anything. Plain data first: asking whether it is a model
    # costs more than writing it.
    kind = type(value)
    if kind in PLAIN:
        try:
            return orjson.dumps(value), False
        except TypeError:
            return to_json(value), True
    if not issubclass(kind, BaseModel):
        if issubclass(kind, Coroutine | Iterator | AsyncIterator):
            if kind is CoroutineType:
                value.close()
            raise ResultNotUsable(
                f"the handler returned a {class_name(value)}, which nobody awaits or iterates: "
                "declare it `async def` without `yield`, or return a list"
            )
        try:
            return orjson.dumps(value), False
        except TypeError:
            return to_json(value), True
    return bytes(value.__pydantic_serializer__.to_json(value)), has_any_keys(kind)
