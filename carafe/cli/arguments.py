"""Turns what a user typed on the command line into values: arguments of a job (``name=value``), times, durations and
options."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from carafe import Job, durations
from carafe.cli.exits import Exit, Failure
from carafe.jobs.options import Option
from carafe.jobs.stored_json import parsed


def job_arguments(job: type[Job], words: Iterable[str], json_text: str | None) -> Any:
    """Returns the arguments of a job: those of the JSON object `json_text`, replaced or extended by `words` (`name=value`).

    A value is taken as text if the job's model takes text for that argument. Otherwise it is read as JSON, or taken as text
    if it is not JSON. Raises `Failure` for words that cannot be read.
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
    """Returns the names of the arguments whose JSON type is a string: texts, but also UUIDs, times and enumerations."""
    try:
        schema = job.model_json_schema()
    except Exception:  # a type that JSON Schema cannot express: the value alone decides
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
    """Returns seconds from a number with or without a unit: 30, 30s, 5m, 2h, 1d. Raises `Failure` for any other text."""
    seconds = durations.parse(text)
    if seconds is None:
        raise Failure(f"{option} takes seconds or a number with s, m, h or d, such as 90 or 5m (got {text!r})", Exit.USAGE)
    return seconds


def moment_of(text: str, option: str) -> datetime:
    """Returns a time with its zone, from ISO 8601 (2026-01-31T12:00:00Z). Raises `Failure` for any other text."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        value = None
    if value is None or value.tzinfo is None:
        raise Failure(f"{option} takes a time with its zone, such as 2026-01-31T12:00:00Z (got {text!r})", Exit.USAGE)
    return value


def past_of(text: str, option: str) -> datetime:
    """Returns the time that a text gives, either as a time (2026-01-31T12:00:00Z) or as a duration before now (2h).

    Raises `Failure` for any other text.
    """
    seconds = durations.parse(text)
    if seconds is not None:
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds)
        except OverflowError:
            raise Failure(f"{option} is too far in the past (got {text!r})", Exit.USAGE) from None
    return moment_of(text, option)


def option_of(option: Option, name: str, text: str) -> Any:
    """Returns the value of a job's option from the text typed after ``--NAME``. Raises `Failure` if it cannot be read."""
    word = "--" + name.replace("_", "-")
    match option.what:
        case "moment":
            return moment_of(text, word)
        case "duration":
            return span_of(text, word)
        case "integer":
            try:
                return int(text)
            except ValueError:
                raise Failure(f"{word} takes a whole number (got {text!r})", Exit.USAGE) from None
    return text
