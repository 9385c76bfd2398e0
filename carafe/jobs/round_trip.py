"""Finds out whether a job's arguments, written as JSON, can be read back as the same job.

For most classes no single job has to be checked: pydantic reads what pydantic has written. `traits_of` examines a class only
once, and finds what can make a difference: serializers that the application wrote, fields that are left out of JSON, names
that two fields share, models that keep undeclared fields. Only the jobs of such classes are read back when they are enqueued
(`lost`).
Must never: cost a job of any other class more than one dictionary lookup.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import SchemaSerializer, to_jsonable_python

from carafe.jobs.secret_fields import may_hold_secrets

_SEQUENCES = (list, tuple, deque)
_IDENTITY: Any = object.__eq__
_TEXT_KEYS = frozenset({"str", "int", "bool", "uuid", "date", "datetime"})
"""Types of dictionary keys: two different keys of the same one of these types never have the same text in JSON."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What `dump` and `load` need to know about a class of jobs.

    `fields`: the number of fields that an object has. `secrets`: whether it may hold secrets. `doubtful`: whether a value
    may be read back as a different one. `keeps_extra`: whether the class, or a model within it, keeps fields that it does
    not declare. `any_keys`: whether a dictionary in it may have keys of several types.
    """

    fields: int
    secrets: bool = True
    doubtful: bool = True
    keeps_extra: bool = True
    any_keys: bool = True


_known: dict[type[BaseModel], Traits] = {}


def traits_of(model: type[BaseModel]) -> Traits:
    """The traits of a class. A class whose annotations cannot be resolved yet counts as having all traits."""
    try:
        return _known[model]
    except KeyError:
        secrets = may_hold_secrets(model)  # builds a class that is built late
        if not model.__pydantic_complete__:
            return Traits(len(model.model_fields))
        seen = _Seen(model.__pydantic_core_schema__)
        found = _known[model] = Traits(len(model.model_fields), secrets, seen.doubtful, seen.keeps_extra, seen.any_keys)
        return found


_with_any_keys: WeakKeyDictionary[type[BaseModel], bool] = WeakKeyDictionary()


def has_any_keys(model: type[BaseModel]) -> bool:
    """Whether a dictionary in an object of this class may have keys of several types. Use this function for
    a class that may soon be dropped: the answer is remembered only while the class exists."""
    found = _with_any_keys.get(model)
    if found is None:
        found = _with_any_keys[model] = _Seen(model.__pydantic_core_schema__).any_keys
    return found


def keeps_extra(schema: Any) -> bool:
    """Whether a model in this pydantic schema keeps fields that it does not declare (``extra="allow"``)."""
    return _Seen(schema).keeps_extra


_serializers: dict[type[BaseModel], SchemaSerializer] = {}


def as_declared(jobs: Iterable[BaseModel]) -> bool:
    """Whether all values in these jobs have the types that their fields declare, as they have after validation. One call for
    many jobs takes much less time than a call for each of them. False may also mean that the class of the jobs is doubtful
    (see `Traits`)."""
    by_class: dict[type[BaseModel], list[BaseModel]] = {}
    for job in jobs:
        same = by_class.get(type(job))
        if same is None:
            by_class[type(job)] = [job]
        else:
            same.append(job)
    try:
        for model, same in by_class.items():
            serializer = _serializers.get(model)
            if serializer is None:
                if traits_of(model).doubtful:
                    return False
                serializer = _serializers[model] = TypeAdapter(list[model]).serializer  # type: ignore[valid-type]
            serializer.to_json(same, round_trip=True, warnings="error")
    except Exception:
        return False  # `dump` says what is wrong with which job
    return True


class _Seen:
    """What a pydantic schema contains, at any depth."""

    def __init__(self, schema: Any) -> None:
        self.doubtful = self.keeps_extra = self.any_keys = False
        waiting, seen = [schema], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, dict):
                self._look(node)
                waiting += [inner for key, inner in node.items() if key != "metadata"]
            elif isinstance(node, list | tuple):
                waiting += node

    def _look(self, node: dict[Any, Any]) -> None:
        if node.get("serialization_exclude") or node.get("serialization_exclude_if") or _is_own(node.get("serialization")):
            self.doubtful = True
        if "allow" in (node.get("extra_behavior"), node.get("extra_fields_behavior")):
            self.keeps_extra = True
        kind, fields = node.get("type"), node.get("fields")
        if kind == "any" or (kind == "dict" and (node.get("keys_schema") or {}).get("type") not in _TEXT_KEYS):
            self.any_keys = True
        if isinstance(fields, list):  # a dataclass's
            fields = {field["name"]: field for field in fields if isinstance(field, dict) and "name" in field}
        if kind in ("model-fields", "typed-dict", "dataclass-args") and isinstance(fields, dict):
            aliases = {name: _keys(field.get("validation_alias")) for name, field in fields.items()}
            written = {name: field.get("serialization_alias") for name, field in fields.items()}
            if shared_name(aliases) or any(key not in (None, name, *aliases[name]) for name, key in written.items()):
                self.doubtful = True


def _is_own(serialization: Any) -> bool:
    """Whether the serialization in a schema was written by the application, and is not one of those that pydantic has for
    its types."""
    if not isinstance(serialization, dict):
        return False
    if not str(serialization.get("type")).startswith("function-"):
        return str(serialization.get("type")).startswith(("include-exclude", "format"))
    function = serialization.get("function")
    while isinstance(getattr(function, "func", None), Callable):  # type: ignore[arg-type]
        function = function.func  # type: ignore[union-attr]
    return not str(getattr(function, "__module__", "")).partition(".")[0].startswith("pydantic")


def _keys(alias: Any) -> list[str]:
    """The names under which a validation alias finds a field. A path into the value of another field does not count as a
    name."""
    if isinstance(alias, str):
        return [alias]
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    if isinstance(alias, AliasPath) or not isinstance(alias, list):
        return []
    paths = alias if alias and isinstance(alias[0], list) else [alias]
    return [path[0] for path in paths if len(path) == 1 and isinstance(path[0], str)]


def aliases_of(model: type[BaseModel]) -> dict[str, list[str]]:
    """For each field of a model, the aliases by which it is read."""
    return {name: _keys(field.validation_alias) for name, field in model.model_fields.items()}


def shared_name(aliases: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """The names of two fields, if the first field has the second field's name as an alias. Returns None if there are no such
    fields. Arguments are stored under the fields' names, so the first field would be read from the second field's value."""
    for name, keys in aliases.items():
        for key in keys:
            if key == name:
                break
            if key in aliases:
                return name, key
    return None


def read_leniently(validate: Callable[..., Any], text: str | bytes, *, keeps_extra: bool) -> Any:
    """Read JSON that another release may have written: fields may have their names or their aliases, and fields that this
    release does not know are ignored. `validate` is a ``validate_json`` of pydantic's. `keeps_extra`: a model keeps such
    fields by its own configuration, and gets them."""
    if not keeps_extra:
        return validate(text, extra="ignore", by_alias=True, by_name=True)
    try:
        return validate(text, by_alias=True, by_name=True)
    except ValidationError as error:
        unknown = [item["loc"] for item in error.errors(include_url=False) if item["type"] == "extra_forbidden"]
    data = orjson.loads(text)
    for path in unknown:
        _drop(data, path)
    try:
        return validate(orjson.dumps(data), by_alias=True, by_name=True)
    except ValidationError:
        # Within a union, the path names the union's choices, so it cannot be followed.
        return validate(text, extra="ignore", by_alias=True, by_name=True)


def _drop(data: Any, path: tuple[int | str, ...]) -> None:
    with suppress(LookupError, TypeError):
        for part in path[:-1]:
            data = data[part]
        del data[path[-1]]


def lost(before: Any, after: Any) -> str | None:
    """The path (``items.0.name``) of a value in the object `before` that is different in `after`, the object that was read
    back from its JSON. Returns None if all values are the same.

    Differences that JSON always causes do not count: a tuple may come back as a list, a time in an untyped field as text.
    """
    return next(_differences(before, after, ""), None)


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    if isinstance(before, RootModel):
        before, after = before.root, getattr(after, "root", after)
    parts = _parts(before)
    others = _parts(after)
    if parts is None or others is None:
        if not _same(before, after):
            yield path
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        # Keys may differ in type (an enum, a UUID); the order is the same.
        if len(parts) != len(others):
            yield path
        for (name, inner), (_, other) in zip(parts, others, strict=False):
            yield from _differences(inner, other, f"{prefix}{name}")
    elif isinstance(before, _SEQUENCES):
        if len(parts) != len(others):
            yield path
        for (name, inner), (_, other) in zip(parts, others, strict=False):
            yield from _differences(inner, other, f"{prefix}{name}")
    else:
        found = dict(others)
        for name, inner in parts:
            if name not in found:
                if type(before) is type(after):
                    yield f"{prefix}{name}"
            else:
                yield from _differences(inner, found[name], f"{prefix}{name}")


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        named = [(name, inner) for name, inner in value.__dict__.items() if name in fields]
        return [*named, *(value.__pydantic_extra__ or {}).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, _SEQUENCES) else None


def _same(before: Any, after: Any) -> bool:
    try:
        if before == after or type(before).__eq__ is _IDENTITY:
            return True
        return bool(to_jsonable_python(before) == to_jsonable_python(after))
    except Exception:
        return True  # an object that cannot be compared: nobody can tell
