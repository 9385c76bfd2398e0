"""Says in words what a setting accepts, what its default is, and what its value is, with secrets hidden.

Everything is derived from the field's type, bounds and default, so it holds for the settings of an application too.
"""

from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from carafe.settings.types import ApiToken, DashboardUser, InSeconds, ModuleName, SecretUrl

_LISTS = (tuple, list, set, frozenset)
_SECRETS = (Secret, SecretStr, SecretBytes, ApiToken, DashboardUser)

_OF_A_LIST: dict[Any, str] = {
    ApiToken: "name:role:digest, separated by commas",
    DashboardUser: "name:role:hash, separated by commas",
    SecretStr: "keys of 32 characters or more, separated by commas",
    IPv4Network: "networks separated by commas",
    str: "names separated by commas",
}
"""For settings that are lists, by the (first) type of their entries: the text that says which form the setting has."""


def is_list(info: FieldInfo) -> bool:
    """Whether the setting is a list: entries separated by commas, or a JSON list."""
    return any((get_origin(kind) or kind) in _LISTS for kind in _kinds(info.annotation))


def is_json(info: FieldInfo) -> bool:
    """Whether the setting is an object, which its variable holds as JSON."""
    found = [get_origin(kind) or kind for kind in _kinds(info.annotation)]
    return any(kind is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)) for kind in found)


def is_secret(info: FieldInfo) -> bool:
    """Whether the setting, or a part of it, is secret."""
    waiting = [info.annotation]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, _SECRETS):
            return True
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            waiting += [field.annotation for field in kind.model_fields.values()]
        waiting += get_args(kind)
    return False


def wants(info: FieldInfo) -> str:
    """The values that a setting accepts."""
    kind = _kinds(info.annotation)[0]
    low, above, high = (_bound(info, name) for name in ("ge", "gt", "le"))
    reach = ""
    if low is not None:
        reach = f" from {low:.15g} to {high:.15g}" if high is not None else f" of {low:.15g} or more"
    elif above is not None:
        reach = f" above {above:.15g}" + (f" and up to {high:.15g}" if high is not None else "")
    if kind is bool:
        return "true or false"
    if kind is int:
        return "a whole number" + reach
    if kind is float:
        return ("a number of seconds" if any(rule is InSeconds for rule in info.metadata) else "a number") + reach
    if get_origin(kind) is Literal:
        return _one_of([str(value) for value in get_args(kind)])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of([str(member.value) for member in kind])
    if is_list(info):
        return _entries((get_args(kind) or (str,))[0])
    if is_json(info):
        return "a JSON object"
    if isinstance(kind, type) and issubclass(kind, SecretUrl):
        return "a URL"
    return {Path: "a path"}.get(kind, "text")


def default_shown(info: FieldInfo) -> str:
    """The setting's default as text; empty if it has none, or one that depends on other settings."""
    if info.default_factory is not None or info.default is PydanticUndefined:
        return ""
    return "" if info.default is None or info.default == () else shown(info.default)


def shown(value: object) -> str:
    """A value as text. A secret shows its stars."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, _LISTS):
        return ",".join(
            f"{item.name}:{item.role}:***" if isinstance(item, (ApiToken, DashboardUser)) else str(item) for item in value
        )
    return str(value)


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field's annotation names, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part) if part is not type(None)]
    return [annotation]


def _bound(info: FieldInfo, name: str) -> Any:
    return next((getattr(rule, name) for rule in info.metadata if getattr(rule, name, None) is not None), None)


def _one_of(words: list[str]) -> str:
    return " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"


def _entries(entry: Any) -> str:
    if entry == ModuleName:
        return "module names separated by commas"
    return _OF_A_LIST.get(_kinds(entry)[0], "entries separated by commas, or a JSON list")
