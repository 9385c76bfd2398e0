"""The form for a job's arguments, by its kind's JSON Schema; and back: what was filled in, as arguments.

Scalars, enumerations, truth values and dates are fields of their own; anything else is JSON in a text area, and so is a
stored value that its field could not give back unchanged (a carriage return in a text, say). Empty fields mean what the
form says beside them: the default, null, or an empty text.
Guarantees: editing a job and changing nothing gives its arguments back as they were.
Must never: put a secret's value into a form, a stored one or one just typed. A stored secret is kept by name (its JSON
pointer) and read by the client when it writes the new job.
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

from carafe.jobs.definition import REDACTED, Job
from carafe.jobs.errors import Fault
from carafe.jobs.stored_json import parsed

Control = Literal["text", "area", "integer", "number", "choice", "date", "moment", "json", "secret"]

VALUE, MOMENT, EMPTY, SECRET = "args.", "utc.", "empty.", "secret."
"""How a field's inputs are named: its value; its value as a local time of UTC; what empty means; keep or replace."""

ALL = "all-args"
"""The name of the text area that holds all the arguments, where they cannot be fields."""

_PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")
_LINES = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f]*")  # a browser sends every line break as CR LF
_LOCAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?")
_INTEGER = re.compile(r"[+-]?\d{1,4000}")


@dataclass(frozen=True, slots=True)
class Field:
    """One argument: what to call it, how to ask for it, and what it means to leave it empty (value and words)."""

    name: str
    control: Control
    required: bool
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    empties: tuple[tuple[str, str], ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filled:
    """A field as it is shown. `keepable`: a secret is stored for it; `kept`: it is to stay."""

    field: Field
    value: str = ""
    empty: str = ""
    keepable: bool = False
    kept: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a filled-in form says: arguments, the pointers of the secrets to keep, and what could not be read."""

    arguments: dict[str, Any]
    keep: tuple[str, ...]
    faults: tuple[Fault, ...]
    filled: tuple[Filled, ...]


class ArgumentForm:
    """The form of one kind. `fields` is empty where all the arguments are one text area of JSON (`whole`)."""

    def __init__(self, job_class: type[Job], *, whole: bool = False) -> None:
        self.kind = job_class.job_options.kind
        self.description = (job_class.__doc__ or "").strip() if job_class.__doc__ is not Job.__doc__ else ""
        schema = _schema(job_class)
        # Names that the model takes beyond its fields cannot be fields of a form.
        self.whole = whole or schema is None or job_class.model_config.get("extra") == "allow"
        self.fields: tuple[Field, ...] = ()
        if schema is not None and not self.whole:
            self.fields = tuple(_fields(job_class, schema))

    def blank(self) -> tuple[Filled, ...]:
        """The empty form."""
        if self.whole:
            return (Filled(_WHOLE, "{}"),)
        return tuple(Filled(one, empty=_first(one)) for one in self.fields)

    def stored(self, arguments: Any, secrets: Sequence[str]) -> tuple[Filled, ...]:
        """The form filled with stored arguments, whose values at `secrets` (JSON pointers) are redacted."""
        if self.whole or not isinstance(arguments, dict):
            return (Filled(_WHOLE, _pretty(arguments), keepable=bool(secrets)),)
        return tuple(_stored(one, arguments, secrets) for one in self.fields)

    def gone(self, arguments: Any) -> tuple[str, ...]:
        """Names in stored arguments that this kind no longer has."""
        if self.whole or not isinstance(arguments, dict):
            return ()
        known = {one.name for one in self.fields}
        return tuple(name for name in arguments if name not in known)

    def read(self, pairs: Iterable[tuple[str, str]], secrets: Sequence[str] = ()) -> Reading:
        """What was filled in. `secrets` are the stored ones that may be kept."""
        given = dict(pairs)
        if ALL in given:
            return self._read_whole(given[ALL], secrets)
        arguments: dict[str, Any] = {}
        keep: list[str] = []
        faults: list[Fault] = []
        filled: list[Filled] = []
        for one in self.fields:
            inside = _inside(one.name, secrets)
            shown = _shown(one, given, keepable=bool(inside))
            filled.append(shown)
            if one.control == "secret":
                _read_secret(one, shown, given.get(VALUE + one.name, ""), arguments, faults)
                keep += inside if shown.kept else ()
                continue
            try:
                found = _value(one, shown)
            except ValueError as error:
                faults.append(Fault(one.name, str(error)))
                continue
            if found is not _OMITTED:
                arguments[one.name] = found
                keep += [pointer for pointer in inside if _at(arguments, pointer) == REDACTED]
        faults += _stray(arguments, keep)
        return Reading(arguments, tuple(keep), tuple(faults), tuple(filled))

    def _read_whole(self, text: str, secrets: Sequence[str]) -> Reading:
        text = text.replace("\r\n", "\n")
        filled = (Filled(_WHOLE, text, keepable=bool(secrets)),)
        try:
            arguments = parsed(text)
            if not isinstance(arguments, dict):
                raise ValueError("must be a JSON object, such as {}")
        except ValueError as error:
            return Reading({}, (), (Fault("", str(error)),), filled)
        keep = tuple(pointer for pointer in secrets if _at(arguments, pointer) == REDACTED)
        return Reading(arguments, keep, tuple(_stray(arguments, keep)), filled)


def with_faults(filled: Iterable[Filled], faults: Iterable[Fault]) -> tuple[tuple[Filled, ...], tuple[str, ...]]:
    """The form with each fault at its field, by its path; and those that belong to none."""
    shown = {one.field.name: one for one in filled}
    others: list[str] = []
    for fault in faults:
        name, _, rest = fault.path.partition(".")
        words = f"{fault.path}: {fault.message}" if rest else fault.message
        if ALL in shown:
            name, words = ALL, f"{fault.path}: {fault.message}" if fault.path else fault.message
        if name in shown:
            shown[name] = replace(shown[name], errors=(*shown[name].errors, words))
        else:
            others.append(f"{fault.path}: {fault.message}" if fault.path else fault.message)
    return tuple(shown.values()), tuple(others)


def without_zone(arguments: Mapping[str, Any], faults: Iterable[Fault], given: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments with local times as they were typed, if that is what the faults are about; else None."""
    naive = {fault.path for fault in faults if fault.type == "timezone_naive"}
    changed = {name: given[MOMENT + name].strip() for name in naive if MOMENT + name in given}
    return {**arguments, **changed} if changed else None


# -- from the schema


_WHOLE = Field(ALL, "json", required=True, hint="All arguments, as one JSON object.")


def _schema(job_class: type[Job]) -> dict[str, Any] | None:
    try:
        return job_class.model_json_schema(by_alias=False)  # arguments are stored by the fields' own names
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return None  # a type of the application's own that JSON Schema has no word for


def _fields(job_class: type[Job], schema: Mapping[str, Any]) -> Iterable[Field]:
    required = set(schema.get("required", ()))
    for name, part in schema.get("properties", {}).items():
        annotation = job_class.model_fields[name].annotation if name in job_class.model_fields else None
        yield _field(name, part, schema.get("$defs", {}), annotation, name in required)


def _field(name: str, part: Mapping[str, Any], definitions: Mapping[str, Any], annotation: Any, required: bool) -> Field:
    resolved, nullable = _resolved(part, definitions)
    control = _control(resolved, annotation)
    hint = str(part.get("description") or resolved.get("description") or "") if "$ref" not in part else ""
    hint = hint or str(part.get("description") or "")
    has_default = "default" in part and control != "secret"
    empties: list[tuple[str, str]] = []
    if not required:
        words = f"the default, {_brief(part['default'])}" if has_default else "the default"
        empties.append(("default", words))
    if nullable and control not in ("json", "secret") and part.get("default", ...) is not None:
        empties.append(("null", "null"))
    if control in ("text", "area") and _takes_empty(resolved):
        empties.append(("text", "an empty text"))
    choices: tuple[tuple[str, str], ...] = ()
    if control == "choice":
        values = [True, False] if resolved.get("type") == "boolean" else resolved.get("enum", [resolved.get("const")])
        choices = tuple((_compact(value), _label(value)) for value in values)
    return Field(name, control, required, hint, choices, tuple(empties), _attributes(control, resolved))


def _resolved(part: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The schema behind references, and whether null is allowed beside it."""
    nullable = False
    for _ in range(20):
        if "$ref" in part:
            part = definitions.get(str(part["$ref"]).rpartition("/")[2], {})
        elif len(part.get("allOf", ())) == 1:
            part = part["allOf"][0]
        elif "anyOf" in part or "oneOf" in part:
            choices = [one for one in part.get("anyOf", part.get("oneOf", ())) if one.get("type") != "null"]
            nullable = nullable or len(choices) < len(part.get("anyOf", part.get("oneOf", ())))
            if len(choices) != 1:
                return part, nullable
            part = choices[0]
        else:
            break
    return part, nullable


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
            return formats.get(part.get("format", ""), "area" if part.get("maxLength", 0) > 200 else "text")
    return "json"


def _unwrapped(annotation: Any) -> Any:
    """The type beside None, without what `Annotated` says of it."""
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if hasattr(annotation, "__metadata__") and inner:
        return _unwrapped(inner[0])
    if type(None) in get_args(annotation) and len(inner) == 1:
        return _unwrapped(inner[0])
    return annotation


def _is_secret(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes | Secret)


def _takes_empty(part: Mapping[str, Any]) -> bool:
    """Whether an empty text may be one: not where the format or the length says otherwise."""
    return not part.get("minLength") and part.get("format") in (None, "binary") and part.get("type") == "string"


def _attributes(control: Control, part: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    if control in ("integer", "number"):
        found["step"] = str(part.get("multipleOf", 1)) if control == "integer" else "any"
        for attribute, keyword in (("min", "minimum"), ("max", "maximum")):
            if keyword in part:
                found[attribute] = str(part[keyword])
    elif control in ("text", "area"):
        if "maxLength" in part:
            found["maxlength"] = str(part["maxLength"])
        if placeholder := _EXAMPLES.get(part.get("format", "")):
            found["placeholder"] = placeholder
    elif control == "json":
        found["placeholder"] = {"array": "[]", "object": "{}"}.get(part.get("type", ""), "JSON")
    return found


_EXAMPLES = {
    "uuid": str(UUID(int=0)),
    "duration": "PT30S",
    "time": "06:00:00",
    "email": "name@example.com",
    "uri": "https://example.com/",
}


# -- filling in


def _first(one: Field) -> str:
    return one.empties[0][0] if one.empties else ""


def _stored(one: Field, arguments: Mapping[str, Any], secrets: Sequence[str]) -> Filled:
    inside = _inside(one.name, secrets)
    if one.control == "secret":
        return Filled(one, empty=_first(one), keepable=bool(inside), kept=bool(inside))
    if one.name not in arguments:
        return Filled(one, empty=_first(one))
    value = arguments[one.name]
    empties = [key for key, _ in one.empties]
    if inside:
        # A secret deeper inside: its place holds asterisks, which stand for "keep".
        return Filled(replace(one, control="json"), _pretty(value), keepable=True)
    if value is None and one.control != "json":
        # Without "null" among the meanings, null is the default.
        return Filled(one, empty="null" if "null" in empties else "default")
    text = _as_text(one, value)
    if text is None:
        return Filled(replace(one, control="json", attributes={}), _pretty(value), _first(one))
    if text == "":
        return Filled(one, empty="text") if "text" in empties else Filled(replace(one, control="json"), '""')
    if one.control == "text" and "\n" in text:
        one = replace(one, control="area", attributes={})
    elif one.control == "moment":
        if (local := _local(text)) is None:
            one = replace(one, control="text")
        else:
            text = local
    return Filled(one, text, _first(one))


def _as_text(one: Field, value: Any) -> str | None:
    """The value as the field's control gives it back unchanged; None if it cannot."""
    match one.control:
        case "integer" | "number":
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            return json.dumps(value) if plain else None
        case "choice":
            return _compact(value) if _compact(value) in {key for key, _ in one.choices} else None
        case "json":
            return _pretty(value)
        case "date" | "moment":
            return value if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value else None
    if not isinstance(value, str) or not _LINES.fullmatch(value) or value != _trimmed(one, value):
        return None
    longest = int(one.attributes.get("maxlength", "0"))
    return None if longest and len(value) > longest else value


def _trimmed(one: Field, value: str) -> str:
    """What survives of a text: fields with a format are sent without surrounding white space."""
    return value.strip() if "placeholder" in one.attributes else value


def _local(text: str) -> str | None:
    """A stored moment as a local time of UTC for the browser's own control; None where it would not come back the same."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    exact = "milliseconds" if moment.microsecond else "seconds"
    local = moment.replace(tzinfo=None).isoformat(timespec=exact)
    return local if text in (local + "Z", local + "000Z") else None


def _shown(one: Field, given: Mapping[str, str], *, keepable: bool) -> Filled:
    """The field as it was sent, to be shown again; a secret's value is not."""
    empties = [key for key, _ in one.empties]
    empty = given.get(EMPTY + one.name, "")
    empty = empty if empty in empties else _first(one)
    if one.control == "secret":
        return Filled(one, empty=empty, keepable=keepable, kept=keepable and given.get(SECRET + one.name, "keep") == "keep")
    if given.get("json." + one.name) == "yes":
        one = replace(one, control="json", attributes={})
    elif one.control == "moment" and MOMENT + one.name not in given:
        one = replace(one, control="text")
    value = given.get((MOMENT if one.control == "moment" else VALUE) + one.name, "").replace("\r\n", "\n")
    if one.control == "text" and "\n" in value:
        one = replace(one, control="area")
    return Filled(one, value, empty, keepable=keepable)


class _Omitted:
    pass


_OMITTED = _Omitted()


def _value(one: Field, shown: Filled) -> Any:
    """The value that was filled in. Raises ValueError in words."""
    text, control = shown.value, shown.field.control
    if text == "" or (control not in ("text", "area") and not text.strip()):
        return {"null": None, "text": ""}.get(shown.empty, _OMITTED)
    match control:
        case "integer" | "number":
            return _number(text.strip())
        case "choice":
            return next((json.loads(key) for key, _ in one.choices if key == text), text)
        case "json":
            return parsed(text)
        case "moment":
            return text.strip() + ("Z" if _LOCAL.fullmatch(text.strip()) else "")
        case "date":
            return text.strip()
    return _trimmed(shown.field, text)


def _read_secret(one: Field, shown: Filled, typed: str, arguments: dict[str, Any], faults: list[Fault]) -> None:
    if shown.kept:
        if typed:
            # A browser that fills in passwords by itself must not replace a secret unasked.
            faults.append(Fault(one.name, "choose “replace” to use what you typed; the stored value would be kept"))
        arguments[one.name] = REDACTED
    elif typed == REDACTED:
        faults.append(Fault(one.name, "asterisks are what stands in place of a secret; type the secret itself"))
    elif typed or shown.empty == "text" or (one.required and shown.keepable):
        arguments[one.name] = typed


def _number(text: str) -> Any:
    """A number as JSON has it; what is none stays text, so that the model says what is wrong with it."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        value = parsed(text)
    except ValueError:
        return text
    return value if isinstance(value, float) else text


def _stray(arguments: Any, keep: Iterable[str]) -> list[Fault]:
    """Asterisks where no secret is stored would become the new value."""
    found: list[Fault] = []
    allowed = set(keep)

    def look(value: Any, pointer: str, path: str) -> None:
        if value == REDACTED and pointer not in allowed:
            found.append(Fault(path, f"{REDACTED} stands for a stored secret, and none is stored here"))
        elif isinstance(value, dict):
            for key, inner in value.items():
                escaped = str(key).replace("~", "~0").replace("/", "~1")
                look(inner, f"{pointer}/{escaped}", f"{path}.{key}".lstrip("."))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                look(inner, f"{pointer}/{index}", f"{path}.{index}")

    look(arguments, "", "")
    return found


def _inside(name: str, secrets: Sequence[str]) -> list[str]:
    """The pointers that lead to this argument or into it."""
    own = "/" + name.replace("~", "~0").replace("/", "~1")
    return [pointer for pointer in secrets if pointer == own or pointer.startswith(own + "/")]


def _at(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _label(value: Any) -> str:
    return value if isinstance(value, str) and value else _compact(value)


def _brief(value: Any) -> str:
    text = _compact(value)
    return text if len(text) <= 60 else text[:59] + "…"
