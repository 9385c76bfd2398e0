"""Makes the form for a job's arguments from the JSON Schema of its kind, and reads a submitted form back as arguments.

Numbers, texts, enumerations, booleans and dates have fields of their own. Everything else goes into one text area as a
JSON object: nested arguments, and values that a field cannot express (null, an empty text, line breaks, a time with
microseconds). An argument whose field is left empty is left out.

Guarantees: a form that is submitted unchanged gives the job's arguments back unchanged.
Must never: put the value of a secret into a form, neither a stored one nor one just typed. The form only names the stored
secrets to keep (by JSON pointer); Carafe's client copies their values when it stores the new job.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

from pydantic import Secret, SecretBytes, SecretStr
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from carafe.jobs.definition import REDACTED, Job, is_redacted
from carafe.jobs.errors import Fault
from carafe.jobs.stored_json import parsed
from carafe.json_pointer import below

Control = Literal["text", "integer", "number", "choice", "date", "moment", "json", "secret"]

VALUE, MOMENT, SECRET = "args.", "utc.", "secret."
"""The prefixes of input names, which the argument's name follows: for the argument's value; for a time, typed in UTC without
a zone; and for the choice to keep or replace a stored secret."""

JSON = "json-args"
"""The name of the text area for the arguments that have no field of their own."""

_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?")
_INTEGER = re.compile(r"[+-]?\d{1,4000}")


@dataclass(frozen=True, slots=True)
class Field:
    """The field of one argument. `control` is its type. `empty` is a text that says what an empty field means; it is '' if a
    value is required."""

    name: str
    control: Control
    hint: str = ""
    empty: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filled:
    """A field with its value, as the form shows it.

    `keepable` says whether a secret is stored for the field, and `kept` whether the user has chosen to keep that secret.
    """

    field: Field
    value: str = ""
    keepable: bool = False
    kept: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A submitted form as it was read: the arguments, the JSON pointers of the secrets to keep, the faults, and the fields
    as they are shown again."""

    arguments: dict[str, Any]
    keep: tuple[str, ...]
    faults: tuple[Fault, ...]
    filled: tuple[Filled, ...]


class ArgumentForm:
    """The form for the arguments of one kind.

    `fields` are the fields of those arguments that have their own. There are none if the form is one text area with all
    arguments as a JSON object (`whole`).
    """

    def __init__(self, job_class: type[Job], *, whole: bool = False) -> None:
        self.kind = job_class.job_options.kind
        self.description = (job_class.__doc__ or "").strip() if job_class.__doc__ is not Job.__doc__ else ""
        schema = _schema(job_class)
        # Names that the model takes beyond its fields cannot be fields of a form.
        self.whole = whole or schema is None or job_class.model_config.get("extra") == "allow"
        found = () if schema is None or self.whole else tuple(_fields(job_class, schema))
        self.fields = tuple(one for one in found if one.control != "json")
        self._nested = tuple(one.name for one in found if one.control == "json")
        self._json = Field(JSON, "json", "All arguments, as one JSON object." if self.whole else self._json_hint())

    def blank(self) -> tuple[Filled, ...]:
        """Returns the fields of an empty form."""
        return self._filled([Filled(one) for one in self.fields], "{}" if self.whole else "", keepable=False)

    def stored(self, arguments: Any, secrets: Sequence[str]) -> tuple[Filled, ...]:
        """Returns the fields filled with stored arguments. The values at `secrets` (JSON pointers) are redacted."""
        if self.whole or not isinstance(arguments, dict):
            return (Filled(self._json, _pretty(arguments), keepable=bool(secrets)),)
        filled = [_stored(one, arguments, secrets) for one in self.fields]
        rest = {one.field.name: arguments[one.field.name] for one in filled if _is_left(one, arguments)}
        rest |= {name: arguments[name] for name in self._nested if name in arguments}
        return self._filled(filled, _pretty(rest) if rest else "", keepable=any(_inside(name, secrets) for name in rest))

    def gone(self, arguments: Any) -> tuple[str, ...]:
        """Returns the names of stored arguments that the kind no longer has."""
        if self.whole or not isinstance(arguments, dict):
            return ()
        known = {*(one.name for one in self.fields), *self._nested}
        return tuple(name for name in arguments if name not in known)

    def read(self, pairs: Iterable[tuple[str, str]], secrets: Sequence[str] = ()) -> Reading:
        """Reads a submitted form from its inputs. `secrets` are the JSON pointers of stored secrets that may be kept."""
        given = dict(pairs)
        text = given.get(JSON, "").replace("\r\n", "\n")
        arguments: dict[str, Any] = {}
        faults: list[Fault] = []
        filled: list[Filled] = []
        try:
            arguments = _object(text)
        except ValueError as error:
            faults.append(Fault(JSON, str(error)))
        for one in self.fields:
            shown = _shown(one, given, keepable=bool(_inside(one.name, secrets)))
            filled.append(shown)
            found = _secret(shown, given, faults) if one.control == "secret" else _value(shown)
            if found is _OMITTED:
                continue
            if one.name in arguments:
                faults.append(Fault(one.name, "is given here and in the JSON below: leave one of the two out"))
            arguments[one.name] = found
        keep = tuple(pointer for pointer in secrets if is_redacted(arguments, pointer))
        faults += _stray(arguments, keep)
        shown_all = self._filled(filled, text, keepable=any(not _is_field(self.fields, pointer) for pointer in secrets))
        return Reading(arguments, keep, tuple(faults), shown_all)

    def _filled(self, fields: Sequence[Filled], text: str, *, keepable: bool) -> tuple[Filled, ...]:
        takes_any = self.whole or self.fields or self._nested
        return (*fields, Filled(self._json, text, keepable=keepable)) if takes_any else ()

    def _json_hint(self) -> str:
        others = "values that no field above can hold, such as null or an empty text" if self.fields else ""
        return f"One JSON object, by name: {'; and '.join(filter(None, (', '.join(self._nested), others)))}."


def with_faults(filled: Iterable[Filled], faults: Iterable[Fault]) -> tuple[tuple[Filled, ...], tuple[str, ...]]:
    """Returns the fields with each fault at the field that its path names, and the texts of the faults that have no field.

    Faults of nested arguments are put at the text area for JSON.
    """
    shown = {one.field.name: one for one in filled}
    others: list[str] = []
    for fault in faults:
        name, _, rest = fault.path.partition(".")
        words = f"{fault.path}: {fault.message}" if rest or (name not in shown and name) else fault.message
        if name not in shown and name:
            name = JSON
        if name in shown:
            shown[name] = replace(shown[name], errors=(*shown[name].errors, words))
        else:
            others.append(words)
    return tuple(shown.values()), tuple(others)


def without_zone(arguments: Mapping[str, Any], faults: Iterable[Fault], given: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments with their times as they were typed, without a zone, if `faults` say that these times must have
    no zone.

    Returns None if no fault says so.
    """
    naive = {fault.path for fault in faults if fault.type == "timezone_naive"}
    changed = {name: given[MOMENT + name].strip() for name in naive if given.get(MOMENT + name, "").strip()}
    return {**arguments, **changed} if changed else None


# -- from the schema


def _schema(job_class: type[Job]) -> dict[str, Any] | None:
    try:
        return job_class.model_json_schema(by_alias=False)  # arguments are stored by the fields' own names
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return None  # an application's type that JSON Schema cannot express


def _fields(job_class: type[Job], schema: Mapping[str, Any]) -> Iterable[Field]:
    required = set(schema.get("required", ()))
    for name, part in schema.get("properties", {}).items():
        annotation = job_class.model_fields[name].annotation if name in job_class.model_fields else None
        yield _field(name, part, schema.get("$defs", {}), annotation, name in required)


def _field(name: str, part: Mapping[str, Any], definitions: Mapping[str, Any], annotation: Any, required: bool) -> Field:
    resolved = _resolved(part, definitions)
    control = _control(resolved, annotation)
    hint = str(part.get("description") or ("" if "$ref" in part else resolved.get("description")) or "")
    empty = ""
    if not required:
        empty = f"the default, {_brief(part['default'])}" if "default" in part and control != "secret" else "the default"
    choices: tuple[tuple[str, str], ...] = ()
    if control == "choice":
        values = [True, False] if resolved.get("type") == "boolean" else resolved.get("enum", [resolved.get("const")])
        choices = tuple((_compact(value), _label(value)) for value in values)
    return Field(name, control, hint, empty, choices, _attributes(control, resolved))


def _resolved(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns an argument's JSON Schema with ``$ref`` resolved. Returns its only alternative besides
    null, if there is one."""
    for _ in range(20):
        if "$ref" in part:
            part = definitions.get(str(part["$ref"]).rpartition("/")[2], {})
            continue
        choices = [one for one in part.get("anyOf", part.get("oneOf", part.get("allOf", ()))) if one.get("type") != "null"]
        if len(choices) != 1:
            break
        part = choices[0]
    return part


def _control(part: Mapping[str, Any], annotation: Any) -> Control:
    inner = _unwrapped(annotation)
    if part.get("writeOnly") or part.get("format") == "password" or _is_secret(inner):
        return "secret"
    if inner is Decimal:
        return "text"
    if "const" in part or "enum" in part or part.get("type") == "boolean":
        return "choice"
    match part.get("type"):
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "string":
            formats: dict[str, Control] = {"date": "date", "date-time": "moment"}
            return formats.get(part.get("format", ""), "text")
    return "json"


def _unwrapped(annotation: Any) -> Any:
    """Returns the type without its alternative None and without `Annotated`."""
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if hasattr(annotation, "__metadata__") and inner:
        return _unwrapped(inner[0])
    if type(None) in get_args(annotation) and len(inner) == 1:
        return _unwrapped(inner[0])
    return annotation


def _is_secret(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes | Secret)


def _attributes(control: Control, part: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if control in ("integer", "number"):
        found["step"] = str(part.get("multipleOf", 1)) if control == "integer" else "any"
        for attribute, keyword in (("min", "minimum"), ("max", "maximum")):
            if keyword in part:
                found[attribute] = str(part[keyword])
    elif control == "text":
        if "maxLength" in part:
            found["maxlength"] = str(part["maxLength"])
        if placeholder := _EXAMPLES.get(part.get("format", "")):
            found["placeholder"] = placeholder
    return found


_EXAMPLES = {
    "uuid": str(UUID(int=0)),
    "duration": "PT30S",
    "time": "06:00:00",
    "email": "name@example.com",
    "uri": "https://example.com/",
}


# -- filling in


def _stored(one: Field, arguments: Mapping[str, Any], secrets: Sequence[str]) -> Filled:
    if one.control == "secret":
        kept = bool(_inside(one.name, secrets))
        return Filled(one, keepable=kept, kept=kept)
    return Filled(one, _as_text(one, arguments.get(one.name)) if not _inside(one.name, secrets) else "")


def _is_left(one: Filled, arguments: Mapping[str, Any]) -> bool:
    """Whether a stored argument is shown in the JSON text area, because its own field could not give it back unchanged."""
    return one.field.name in arguments and not one.value and not one.kept


def _as_text(one: Field, value: Any) -> str:
    """Returns the text to show in a field, so that the field gives `value` back when it is submitted unchanged; '' if no
    text does that."""
    match one.control:
        case "integer" | "number":
            return json.dumps(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
        case "choice":
            return _compact(value) if _compact(value) in {key for key, _ in one.choices} else ""
    if not isinstance(value, str) or not _PLAIN_TEXT.fullmatch(value):
        return ""
    match one.control:
        case "date":
            return value if _DATE.fullmatch(value) else ""
        case "moment":
            return _local(value)
    return value if value.strip() and value == _trimmed(one, value) else ""


def _trimmed(one: Field, value: str) -> str:
    """Returns the text that a user typed into a field, as it is used: without surrounding white space if the field has a
    format."""
    return value.strip() if "placeholder" in one.attributes else value


def _local(text: str) -> str:
    """Returns a stored time as the browser's date and time control writes it, in UTC.

    Returns '' if the control would give back another value.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    exact = "milliseconds" if moment.microsecond else "seconds"
    local = moment.replace(tzinfo=None).isoformat(timespec=exact)
    return local if text in (local + "Z", local + "000Z") else ""


def _shown(one: Field, given: Mapping[str, str], *, keepable: bool) -> Filled:
    """Returns the field as it was submitted, to be shown again, without the value of a secret."""
    if one.control == "secret":
        return Filled(one, keepable=keepable, kept=keepable and given.get(SECRET + one.name, "keep") == "keep")
    return Filled(one, given.get((MOMENT if one.control == "moment" else VALUE) + one.name, ""))


class _Omitted:
    pass


_OMITTED = _Omitted()


def _value(shown: Filled) -> Any:
    """Returns the value that was filled in; `_OMITTED` for an empty field."""
    one, text = shown.field, shown.value
    if not text.strip():
        return _OMITTED
    match one.control:
        case "integer" | "number":
            return _number(text.strip())
        case "choice":
            return next((json.loads(key) for key, _ in one.choices if key == text), text)
        case "moment":
            return text.strip() + ("Z" if _LOCAL.fullmatch(text.strip()) else "")
        case "date":
            return text.strip()
    return _trimmed(one, text)


def _secret(shown: Filled, given: Mapping[str, str], faults: list[Fault]) -> Any:
    name, typed = shown.field.name, given.get(VALUE + shown.field.name, "")
    if shown.kept:
        if typed:
            # A browser's password autofill must not replace a secret.
            faults.append(Fault(name, "choose “replace” to use what you typed; otherwise the stored value is kept"))
        return REDACTED
    if typed == REDACTED:
        faults.append(Fault(name, "asterisks are the placeholder of a secret; type the secret itself"))
        return _OMITTED
    return typed or _OMITTED


def _object(text: str) -> dict[str, Any]:
    """Returns the JSON object that a text contains; an empty object for a blank text. Raises ValueError, with a message for
    the user, if the text is anything else."""
    found = parsed(text) if text.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object, such as {}")
    return found


def _number(text: str) -> Any:
    """Returns the number that was typed. Text that is not a number is returned as it is, so that the job's model reports the
    fault."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        value = parsed(text)
    except ValueError:
        return text
    return value if isinstance(value, float) else text


def _stray(arguments: Any, keep: Iterable[str]) -> list[Fault]:
    """Returns a fault for each placeholder (asterisks) that stands where no secret is stored. Otherwise the asterisks would
    be stored as the argument's value."""
    found: list[Fault] = []
    allowed = set(keep)

    def look(value: Any, pointer: str, path: str) -> None:
        if value == REDACTED and pointer not in allowed:
            found.append(Fault(path, f"{REDACTED} is the placeholder of a stored secret, and none is stored here"))
        elif isinstance(value, dict):
            for key, inner in value.items():
                look(inner, below(pointer, key), f"{path}.{key}".lstrip("."))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                look(inner, below(pointer, index), f"{path}.{index}")

    look(arguments, "", "")
    return found


def _is_field(fields: Iterable[Field], pointer: str) -> bool:
    """Whether the secret at `pointer` has a field of its own."""
    return any(one.control == "secret" and _inside(one.name, [pointer]) for one in fields)


def _inside(name: str, secrets: Sequence[str]) -> list[str]:
    """Returns the JSON pointers of secrets that are this argument or inside it."""
    own = below("", name)
    return [pointer for pointer in secrets if pointer == own or pointer.startswith(own + "/")]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _label(value: Any) -> str:
    return value if isinstance(value, str) and value else _compact(value)


def _brief(value: Any) -> str:
    text = _compact(value)
    return text if len(text) <= 60 else text[:59] + "…"
