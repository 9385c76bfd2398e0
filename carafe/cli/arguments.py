"""Words of the command line as values: `k=v` as a job's arguments, times, durations."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from carafe.cli.exits import Exit, Failure
from carafe.jobs import Job
from carafe.jobs.stored_json import parsed

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")


def job_arguments(job: type[Job], words: Iterable[str], json_text: str | None) -> Any:
    """The arguments in `json_text`, an object, with those of `words` (`name=value`) laid over it.

    A value is text where the job's model takes text there, else JSON if it is JSON, else text again.
    """
    arguments: Any = {}
    if json_text is not None:
        try:
            arguments = parsed(json_text)
        except ValueError as error:
            raise Failure(f"--json-args {error}", Exit.USAGE) from None
    given = list(words)
    if not given:
        return arguments
    if not isinstance(arguments, dict):
        raise Failure("--json-args must be a JSON object when name=value arguments follow", Exit.USAGE)
    texts = _fields_of_text(job)
    named: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Failure(f"arguments are given as name=value (got {word!r})", Exit.USAGE)
        if name in named:
            raise Failure(f"the argument {name!r} is given twice", Exit.USAGE)
        named[name] = value if name in texts else _json_or_text(value)
    return {**arguments, **named}


def _json_or_text(value: str) -> Any:
    try:
        return parsed(value)
    except ValueError:
        return value


def _fields_of_text(job: type[Job]) -> set[str]:
    """The arguments that take a JSON string: text, but also a UUID, a time, an enumeration of words."""
    try:
        schema = job.model_json_schema()
    except Exception:  # a type that JSON Schema cannot say: then the value alone decides
        return set()
    definitions = schema.get("$defs", {})
    return {name for name, part in schema.get("properties", {}).items() if _takes_text(part, definitions)}


def _takes_text(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    if "$ref" in part:
        return _takes_text(definitions.get(part["$ref"].rpartition("/")[2], {}), definitions)
    if part.get("type") == "string" or isinstance(part.get("const"), str):
        return True
    if any(isinstance(value, str) for value in part.get("enum", ())):
        return True
    return any(_takes_text(choice, definitions) for key in ("anyOf", "oneOf", "allOf") for choice in part.get(key, ()))


def span_of(text: str, option: str) -> float:
    """Seconds, from a number with or without a unit: 30, 30s, 5m, 2h, 1d."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise Failure(f"{option} takes seconds or a number with s, m, h or d, such as 90 or 5m (got {text!r})", Exit.USAGE)
    return float(match[1]) * _UNITS[match[2] or ""]


def moment_of(text: str, option: str) -> datetime:
    """A time with its zone, from ISO 8601 (2026-01-31T12:00:00Z)."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        value = None
    if value is None or value.tzinfo is None:
        raise Failure(f"{option} takes a time with its zone, such as 2026-01-31T12:00:00Z (got {text!r})", Exit.USAGE)
    return value


def past_of(text: str, option: str) -> datetime:
    """A time with its zone, or a duration that reaches back from now: 2026-01-31T12:00:00Z, 2h."""
    if _SPAN.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - timedelta(seconds=span_of(text, option))
        except OverflowError:
            raise Failure(f"{option} reaches back too far (got {text!r})", Exit.USAGE) from None
    return moment_of(text, option)
