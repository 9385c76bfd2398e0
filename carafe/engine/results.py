"""A handler's return value as JSON text, within its limit."""

from typing import Any

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from carafe.jobs.definition import has_nul
from carafe.jobs.errors import PayloadTooLarge
from carafe.jobs.stored_json import NOT_FINITE, fault_of, not_finite

PLAIN = frozenset({dict, list, str, int, float, bool})


class ResultNotUsable(TypeError):
    """A handler returned what JSON in Postgres cannot hold."""


def encode_result(value: Any, limit: int) -> str | None:
    """The result as JSON text (None for None): what JSON holds, pydantic models, dataclasses, dates, UUIDs.

    `limit` in bytes. Raises `ResultNotUsable` or `PayloadTooLarge`.
    """
    if value is None:
        return None
    try:
        # Plain data first: asking whether it is a model costs more than writing it.
        if type(value) in PLAIN or not isinstance(value, BaseModel):
            try:
                data = orjson.dumps(value)
            except TypeError:
                data = to_json(value)
        else:
            data = value.__pydantic_serializer__.to_json(value)
        if len(data) > limit:
            raise PayloadTooLarge("the result's fields", len(data), limit, "JOB_RESULT_LIMIT")
        if b"null" in data and not_finite(to_jsonable_python(value, fallback=str)) is not None:
            raise ResultNotUsable(f"the result {NOT_FINITE}")
        # Short texts can be neither too deep nor hold a number that is too long.
        if len(data) > 18 and (fault := fault_of(data.decode())) is not None:
            raise ResultNotUsable(f"the result {fault}")
        if b"\\u0000" in data and has_nul(orjson.loads(data)):
            raise ResultNotUsable("the result holds a text with the NUL character, which Postgres cannot store")
        return data.decode()
    except (PydanticSerializationError, UnicodeError, orjson.JSONEncodeError, ValueError) as error:
        raise ResultNotUsable(f"the result ({type(value).__name__}) cannot be written as JSON: {error}") from None
