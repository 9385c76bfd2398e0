"""The table of the conditions that a job filter can have, for the query string, the HTTP API, the command line and the
pages. A new condition needs an entry here, and a field of `carafe.store.filters.JobFilter` with its SQL. Everything else is
made from these two."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.jobs.states import State

LONGEST = 500
"""The maximum number of characters of one value."""

SELECTED = 10_000
"""The maximum number of job ids in one filter."""

ARGUMENT = "args."
"""How the name of a condition on a job's argument begins. After this comes the name of the argument."""

Shape = Literal["state", "text", "id", "moment", "argument", "boolean"]


@dataclass(frozen=True, slots=True)
class Word:
    """One condition that a filter can have. It is called `name` in a query string, `field` in `JobFilter` and in JSON, and
    `label` on a page. `many`: whether it may be given several times; a job then matches with any of the values."""

    name: str
    field: str
    label: str
    shape: Shape
    help: str
    many: bool = False

    def read(self, value: str, *, strict: bool = False) -> Any:
        """Returns what `value`, a text from a query string, means as a condition. If `strict`, a time must have a time zone.
        Raises `InvalidOption` for a text that means nothing here."""
        return _READ[self.shape](self.name, value, strict)

    def write(self, value: Any) -> str:
        """The text that represents `value` in a query string. `read` turns the text into the value again."""
        match value:
            case bool():
                return "true" if value else "false"
            case datetime():
                return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return str(value)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a single value of this condition in a query string."""
        return dict(_SCHEMAS[self.shape])


WORDS = (
    Word("state", "states", "state", "state", "Any of these states.", many=True),
    Word("kind", "kind", "kind", "text", "Of this kind."),
    Word(
        "error_class",
        "error_class",
        "error class",
        "text",
        "Failed with this class of error, such as ConnectTimeout; its module may be left out.",
    ),
    Word("fingerprint", "fingerprint", "error group", "text", "Of this group of dead jobs with the same kind of error."),
    Word("text", "text", "error says", "text", "With this text in the error, whatever its case."),
    Word(
        "args", "argument", "args", "argument", "With exactly this text as the value of a top-level argument (not a secret)."
    ),
    Word("worker", "worker", "worker", "id", "Runs or ran on this worker."),
    Word("since", "since", "since", "moment", "Ended (live jobs: created) then or later."),
    Word("until", "until", "until", "moment", "Ended (live jobs: created) before then."),
    Word("resolved", "resolved", "resolved", "boolean", "Whether an operator has discarded the dead job."),
    Word("id", "ids", "selected", "id", "This job.", many=True),
)

BY_NAME: Mapping[str, Word] = {word.name: word for word in WORDS}
BY_FIELD: Mapping[str, Word] = {word.field: word for word in WORDS}


def is_condition(name: str) -> bool:
    """Whether a parameter of this name in a query string or form is a condition of a filter."""
    return name.startswith(ARGUMENT) or (name in BY_NAME and name != "args")


def printable(name: str, value: str) -> str:
    """Returns `value`. Raises `InvalidOption`, whose message contains the given `name`, when it is not printable or too
    long."""
    if not value.isprintable():
        raise InvalidOption(name, "must be printable characters")
    if len(value) > LONGEST:
        raise InvalidOption(name, f"must be at most {LONGEST} characters (got {len(value)})")
    return value


def argument_of(name: str, value: str) -> tuple[str, str]:
    """The argument's name and the value in the text `value`, which has the form ``args.NAME:VALUE``. Raises `InvalidOption`,
    whose message contains the given `name`, for a text of another form."""
    argument, colon, wanted = printable(name, value).removeprefix(ARGUMENT).partition(":")
    if not (argument.strip() and colon):
        raise InvalidOption(name, "an argument is searched for as args.NAME:VALUE, its exact value after the colon")
    return argument.strip(), wanted.strip()


def _state(name: str, value: str, strict: bool) -> State:
    try:
        return State(value)
    except ValueError:
        raise InvalidOption(name, f"must be one of {', '.join(State)} (got {value[:40]!r})") from None


def _uuid(name: str, value: str, strict: bool) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise InvalidOption(name, f"must be a UUID (got {value[:40]!r})") from None


def _boolean(name: str, value: str, strict: bool) -> bool:
    if value not in ("true", "false"):
        raise InvalidOption(name, f"must be true or false (got {value[:40]!r})")
    return value == "true"


_WRITTEN_OUT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d.*([Zz]|[+-]\d\d:\d\d)")


def _moment(name: str, value: str, strict: bool) -> datetime:
    # In a query string that was not encoded, the + of an offset has become a space.
    text = value.replace(" ", "+") if "T" in value else value
    if strict and not _WRITTEN_OUT.fullmatch(text):
        raise InvalidOption(name, f"must be a time with its zone, like 2026-01-31T14:02:00Z (got {value[:40]!r})")
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidOption(name, f"must be a time like 2026-01-31T14:02:00Z (got {value[:40]!r})") from None


_READ: Mapping[Shape, Callable[[str, str, bool], Any]] = {
    "state": _state,
    "text": lambda name, value, strict: printable(name, value),
    "id": _uuid,
    "moment": _moment,
    "argument": lambda name, value, strict: argument_of(name, value),
    "boolean": _boolean,
}

_TEXT = {"type": "string", "minLength": 1, "maxLength": LONGEST}
_SCHEMAS: Mapping[Shape, Mapping[str, Any]] = {
    "state": {"type": "string", "enum": [state.value for state in State]},
    "text": _TEXT,
    "id": {"type": "string", "format": "uuid"},
    "moment": {"type": "string", "format": "date-time"},
    "argument": _TEXT,
    "boolean": {"type": "boolean"},
}
