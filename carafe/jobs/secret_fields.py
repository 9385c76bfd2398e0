"""Secret fields of a job's arguments: ``SecretStr``, ``SecretBytes``, ``Secret[...]`` and their subclasses, at any depth.

Secrets are recognized by their class, not by how they are serialized, because a serializer that the application wrote may
show them, or hide them in its own way.
Guarantees: the value is stored as the handler needs it, together with its place, so that no view shows it. A secret that
cannot be stored this way is refused at enqueue with an explanation, never changed. For a kind without secret fields, all
this costs one dictionary lookup.
"""

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, PydanticUserError, RootModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import to_json

from carafe.json_pointer import below

REDACTED = "**********"

_CLASSES = (SecretStr, SecretBytes, Secret)
_SEQUENCES = (list, tuple, set, frozenset, deque)

_kinds: dict[type[BaseModel], bool] = {}


class SecretNotStorable(ValueError):
    """Raised for a secret that the handler could not read back from JSON as the same secret, however the JSON is written.
    `path` is the JSON pointer to the secret."""

    def __init__(self, path: str, words: str) -> None:
        self.path = path
        super().__init__(words)


def may_hold_secrets(model: type[BaseModel]) -> bool:
    """Whether a field of this class is secret, at any depth. Returns True also while the class's annotations cannot be
    resolved."""
    known = _kinds.get(model)
    if known is None:
        # A model that is built late (`defer_build`, forward references) gets its schema only now. Depth 0: its names are
        # looked up in its own module, not here.
        if model.model_rebuild(raise_errors=False, _parent_namespace_depth=0) is False:
            return True
        known = _kinds[model] = _mentions_secret(model.__pydantic_core_schema__)
    return known


def may_be_secret(model: type[BaseModel], field: str) -> bool:
    """Whether this field of a model may hold a secret, at any depth. Not for the hot path: the field's schema is built for
    each call."""
    if not may_hold_secrets(model):
        return False
    annotation: Any = model.model_fields[field].annotation
    try:
        return _mentions_secret(TypeAdapter(annotation).core_schema)
    except PydanticUserError:
        return True  # an annotation that cannot be resolved


def _mentions_secret(schema: Any) -> bool:
    """Whether a pydantic schema contains a secret class anywhere. Such a schema names the class, or the functions of
    `Secret`."""
    waiting, seen = [schema], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list | tuple):
            if id(node) not in seen:
                seen.add(id(node))
                waiting += node.values() if isinstance(node, dict) else node
        elif isinstance(node, Mapping):
            return True  # a placeholder for a schema that is not built yet
        elif _is_secret_function(node):
            return True
    return False


def behind_plain(model: type[BaseModel]) -> str | None:
    """The name of a field with a union in which a plain type stands before a secret one and accepts the same JSON
    (``str | SecretStr``), at any depth. Every value would be plain, and shown. Returns None if there is no such field, or if
    the class cannot be examined yet."""
    if not may_hold_secrets(model) or not model.__pydantic_complete__:
        return None
    schema: Any = model.__pydantic_core_schema__
    known = {one["ref"]: one for one in _dicts(schema) if isinstance(one.get("ref"), str)}
    for one in _dicts(schema):
        if one.get("type") == "model" and one.get("cls") is model:
            for inner in _dicts(one["schema"]):
                if inner.get("type") == "model-fields":
                    fields = inner["fields"].items()
                    return next((name for name, field in fields if _has_hidden_secret(field, known)), None)
    return None


def _has_hidden_secret(schema: Any, known: Mapping[str, Any]) -> bool:
    for union in _dicts(schema):
        accepted: set[str] = set()
        for choice in _choices(union, known) if union.get("type") == "union" else ():
            core, secret = _core(choice)
            if secret and accepted & {core, "any"}:
                return True
            if not secret:
                accepted.add(core)
    return False


def _choices(schema: Any, known: Mapping[str, Any]) -> Iterator[Any]:
    """The choices of a union, also of unions within it, in their order."""
    waiting, seen = [schema], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            node = node[0]  # a choice with its label
        if node.get("type") == "definition-ref":
            node = known.get(node["schema_ref"], node)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.get("type") in ("union", "tagged-union"):
            choices = node["choices"]
            waiting += reversed(list(choices.values() if isinstance(choices, dict) else choices))
        elif node.get("type") in ("nullable", "default", "definitions"):
            waiting.append(node["schema"])
        else:
            yield node


def _core(schema: Any) -> tuple[str, bool]:
    """The type of JSON that a schema reads ("str" for bytes too, since JSON has them as text), and whether it makes a secret
    of it."""
    secret = False
    inner = schema
    while inner is not None:
        schema = inner
        if schema.get("type") in ("model", "dataclass", "typed-dict", "json", "call"):
            break
        secret = secret or _is_secret_function((schema.get("function") or {}).get("function"))
        inner = schema.get("lax_schema") or schema.get("json_schema") or schema.get("schema")
    kind = str(schema.get("type"))
    return ("str" if kind == "bytes" else kind), secret


def _dicts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary within a pydantic schema but those in defaults, which are values; the outermost first."""
    waiting, seen = [schema], set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, dict):
                yield node
                # A field may be called "default" too: then its schema has a type.
                node = [value for key, value in node.items() if key != "default" or node.get("type") != "default"]
            waiting += reversed(node)


def _is_secret_function(function: Any) -> bool:
    if isinstance(function, type):
        return issubclass(function, _CLASSES)
    return str(getattr(function, "__qualname__", "")).startswith("Secret.__get_pydantic_core_schema__")


def secrets_in(value: Any) -> Iterator[Any]:
    """Yields the plain values of all secrets in an object, and of secrets inside those values."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, _CLASSES):
            inner = found.get_secret_value()
            yield inner
            waiting.append(inner)
        else:
            waiting += _inside(found)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, BaseModel):
        return [*value.__dict__.values(), *(value.__pydantic_extra__ or {}).values()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return list(value) if isinstance(value, _SEQUENCES) else []


def json_with_secrets(model: BaseModel) -> tuple[str, tuple[str, ...]]:
    """A model as JSON text with its secrets unhidden, and the JSON pointers to them. Raises `SecretNotStorable` when the
    handler could not read a secret back, with or without its own serializer."""
    plain = _Revealed(model, custom=False)
    if not plain.doubtful or _comes_back(model, plain.text):
        return plain.text, tuple(plain.places)
    # The application's own validator may expect the text that its own serializer writes.
    custom = _Revealed(model, custom=True)
    if REDACTED not in custom.text and _comes_back(model, custom.text):
        return custom.text, tuple(custom.places)
    raise _not_storable(model, plain)


def _comes_back(model: BaseModel, text: str) -> bool:
    try:
        other = type(model).model_validate_json(text, by_alias=True, by_name=True)
    except ValueError:
        return False
    return _same_secrets(model, other)


def _same_secrets(one: Any, other: Any) -> bool:
    return sorted(map(repr, secrets_in(one))) == sorted(map(repr, secrets_in(other)))


def _not_storable(model: BaseModel, plain: "_Revealed") -> SecretNotStorable:
    """The error that names the field because of which `model` could not be read back from its JSON: not every secret that is
    written differently is one."""
    path = plain.doubtful[0]
    try:
        other = type(model).model_validate_json(plain.text, by_alias=True, by_name=True)
        differing = [name for name, value in model if not _same_secrets(value, getattr(other, name, None))]
        if differing and not f"{path}/".startswith(f"{below('', differing[0])}/"):
            path = below("", differing[0])
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        top = below("", found["loc"][0]) if found["loc"] else ""
        place = next((place for place in plain.doubtful if f"{place}/".startswith(f"{top}/")), None)
        if place is None:
            return SecretNotStorable(top, f"its value cannot be read back from its JSON ({found['type']})")
        path = place
    except ValueError:
        pass  # raised by the application's own code, which does not say where
    return SecretNotStorable(
        path,
        "a secret has a serializer of its own or is within Json[...], and its handler could not read back the text that is "
        "written: leave the serializer out or add a validator that reads this text; declare the type itself instead of Json",
    )


class _Revealed:
    """A model's JSON with its secrets unhidden. `custom`: whether a secret that has a serializer of its own is written by
    that serializer."""

    def __init__(self, model: BaseModel, *, custom: bool) -> None:
        self.places: list[str] = []
        self.doubtful: list[str] = []
        """JSON pointers to those secrets that a serializer of the application has written differently from pydantic."""
        self._custom = custom
        data = self._reveal(model.model_dump(mode="json", round_trip=True, warnings=False), model, "")
        # Written by the rules that the worker reads by; bytes are UTF-8, as in models of any configuration below this one.
        self.text = to_json(data, inf_nan_mode="constants").decode()

    def _reveal(self, shown: Any, value: Any, path: str) -> Any:
        if isinstance(value, _CLASSES):
            self.places.append(path)
            if shown != str(value) or isinstance(value.get_secret_value(), bytes):
                self.doubtful.append(path)
                if self._custom:
                    return shown
            return _plain(value.get_secret_value())
        if isinstance(value, RootModel):
            return self._reveal(shown, value.root, path)
        if next(secrets_in(value), None) is None:
            return shown
        if any(next(secrets_in(key), None) is not None for key in value) if isinstance(value, Mapping) else False:
            raise SecretNotStorable(path, "a secret cannot be the name of an item: names are shown")
        parts = _parts(shown, value)
        if parts is None:
            # A serializer has changed the shape, so nobody knows which part is secret: all of it counts as secret.
            self.places.append(path)
            self.doubtful.append(path)
            return shown
        if isinstance(shown, list):
            return [self._reveal(shown[key], inner, below(path, key)) for key, inner in parts]
        return {**shown, **{key: self._reveal(shown[key], inner, below(path, key)) for key, inner in parts}}


def _parts(shown: Any, value: Any) -> list[tuple[Any, Any]] | None:
    """Pairs of each key in `shown` (JSON data) with the value in `value` (the object) from which it was made. Returns None
    if the two differ in shape."""
    if isinstance(value, Mapping):
        if not isinstance(shown, dict) or len(shown) != len(value):
            return None
        # Keys may differ in type (an enum, a UUID); the order is the same.
        return list(zip(shown, value.values(), strict=True))
    if isinstance(value, _SEQUENCES):
        if not isinstance(shown, list) or len(shown) != len(value):
            return None
        return list(enumerate(value))
    if not isinstance(shown, dict):
        return None
    parts = []
    for names, inner, left_out in _fields(value):
        key = next((name for name in names if name in shown), None)
        if key is not None:
            parts.append((key, inner))
        elif not left_out and next(secrets_in(inner), None) is not None:
            return None
    return parts


def _fields(value: Any) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Yields for each field of a model or dataclass: the names by which JSON may call it, its value, and whether the model
    leaves the field out of JSON."""
    fields = getattr(type(value), "__pydantic_fields__", None)
    if fields is None:
        for plain in dataclasses.fields(value):
            yield (plain.name,), getattr(value, plain.name, None), False
        return
    for name, field in fields.items():
        aliases = tuple(alias for alias in (field.serialization_alias, field.alias) if alias)
        yield (name, *aliases), getattr(value, name, None), bool(field.exclude)
    for name, inner in (getattr(value, "__pydantic_extra__", None) or {}).items():
        yield (name,), inner, False


def _plain(value: Any) -> Any:
    """`value` with every secret in it, at any depth, replaced by the secret's plain value."""
    if isinstance(value, _CLASSES):
        return _plain(value.get_secret_value())
    if next(secrets_in(value), None) is None:
        return value
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, _SEQUENCES):
        return [_plain(inner) for inner in value]
    return {names[0]: _plain(inner) for names, inner, left_out in _fields(value) if not left_out}
