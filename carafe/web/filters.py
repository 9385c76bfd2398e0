"""Filters of jobs in requests: in the query string of a list, in the body of a bulk action, and in the OpenAPI document.

All three are made from the table in `carafe.store.filter_words`. Guarantees: the answer to a faulty filter lists all faults
of the filter at once.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Request
from pydantic import PlainSerializer, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from carafe.jobs.errors import Fault, InvalidFilter, InvalidOption
from carafe.store.filter_words import ARGUMENT, SELECTED, WORDS, Word
from carafe.store.filters import JobFilter
from carafe.store.pages import LONGEST
from carafe.web.problems import invalid_request

PER_PAGE = 50
"""The maximum number of jobs on a page of a request that has no parameter `limit`."""

LONGEST_CURSOR = 500
"""The maximum number of characters of a cursor."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a request for a list asks for: the filter of jobs, which page (`cursor`), and the maximum number of jobs on that
    page (`limit`)."""

    filter: JobFilter
    cursor: str | None
    limit: int


def listing(request: Request) -> Listing:
    """Returns what the request's query string asks for. Raises one `ProblemError` that lists every fault in it."""
    pairs = request.query_params.multi_items()
    faults: list[Fault] = []
    own: dict[str, str] = {}
    for name in ("cursor", "limit"):
        values = [value for found, value in pairs if found == name]
        if len(values) > 1:
            faults.append(Fault(name, f"is given {len(values)} times; give it once", "invalid-option"))
        if values:
            own[name] = values[0]
    wanted = JobFilter()
    try:
        wanted = JobFilter.from_query([pair for pair in pairs if pair[0] not in ("cursor", "limit")], strict=True)
    except InvalidOption as error:
        faults += [Fault(one.option, one.message, one.code) for one in each(error)]
    limit = own.get("limit", str(PER_PAGE))
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= LONGEST):
        faults.append(Fault("limit", f"must be a number from 1 to {LONGEST}", "invalid-option"))
    if len(own.get("cursor", "")) > LONGEST_CURSOR:
        faults.append(Fault("cursor", f"must be at most {LONGEST_CURSOR} characters", "invalid-option"))
    if faults:
        raise invalid_request(faults)
    return Listing(wanted, own.get("cursor"), int(limit))


def parameters() -> list[dict[str, Any]]:
    """Returns the query parameters that `listing` reads, as the OpenAPI document describes them."""
    number = {"type": "integer", "minimum": 1, "maximum": LONGEST, "default": PER_PAGE}
    cursor = {"type": "string", "maxLength": LONGEST_CURSOR}
    return [
        *map(_parameter, WORDS),
        _in_query("cursor", "`next_cursor` of the previous page.", cursor),
        _in_query("limit", "The maximum number of jobs on the page.", number),
    ]


def _parameter(word: Word) -> dict[str, Any]:
    if word.many:
        return _in_query(word.name, f"{word.help} May be given several times.", {"type": "array", "items": word.schema()})
    if word.shape == "argument":
        # Of an object in this style each member is a parameter of its own: args.NAME=VALUE.
        names = {"pattern": f"^{ARGUMENT.replace('.', '[.]')}.+$"}
        schema = {"type": "object", "propertyNames": names, "maxProperties": 1, "additionalProperties": {"type": "string"}}
        said = f"`{ARGUMENT}NAME=VALUE`: {word.help[0].lower()}{word.help[1:]}"
        return _in_query(word.name, said, schema) | {"style": "form", "explode": True}
    return _in_query(word.name, word.help, word.schema())


def _in_query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def each(error: InvalidOption) -> tuple[InvalidOption, ...]:
    """Returns each fault that an error about a filter or an option holds, as an error of its own."""
    return error.faults if isinstance(error, InvalidFilter) else (error,)


def _in_body(value: Any) -> JobFilter:
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "must be an object")
    try:
        return JobFilter.from_json(value)
    except InvalidOption as error:
        raise ValidationError.from_exception_data(
            "filter",
            [
                InitErrorDetails(
                    type=PydanticCustomError("invalid-option", "{said}", {"said": one.message}),
                    loc=(one.option,),
                    input=None,
                )
                for one in each(error)
            ],
        ) from None


def _schema(word: Word) -> dict[str, Any]:
    if word.shape == "argument":
        one: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
    elif word.many:
        one = {"type": "array", "items": word.schema()}
        if word.field == "ids":
            one |= {"minItems": 1, "maxItems": SELECTED}
    else:
        one = word.schema()
    said = word.help if not word.many else f"Any of these: {word.help[0].lower()}{word.help[1:]}"
    return {"anyOf": [one, {"type": "null"}], "description": said}


FilterInBody = Annotated[
    JobFilter,
    PlainValidator(_in_body),
    PlainSerializer(JobFilter.to_json, return_type=dict[str, Any]),
    WithJsonSchema(
        {
            "title": "JobFilter",
            "type": "object",
            "description": "Jobs that meet every condition given; without conditions, all that the action applies to.",
            "properties": {word.field: _schema(word) for word in WORDS},
            "additionalProperties": False,
        }
    ),
]
"""The type of a body's field that holds a filter as JSON, with the fields of `JobFilter`. A faulty filter is answered with
all of its faults."""
