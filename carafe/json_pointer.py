"""JSON pointers (RFC 6901): texts such as ``/login/password`` or ``/hosts/0`` that say where a value is in JSON data."""

from typing import Any


def below(pointer: str, key: str | int) -> str:
    """The pointer to the member or item `key` of the value that `pointer` leads to."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def parts(pointer: str) -> list[str]:
    """The keys in `pointer`, outermost first. The empty pointer leads to the whole value and has no keys."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def get(value: Any, pointer: str) -> Any:
    """The value at `pointer`. Raises LookupError where there is none."""
    for key in parts(pointer):
        value = value[_place(value, key)]
    return value


def put(value: Any, pointer: str, new: Any, *, add: bool = False) -> Any:
    """A copy of `value` with `new` at `pointer`. Raises LookupError if `value` has no such place. With `add`, the last key
    of the pointer may be missing in its object and is then added."""
    return _put(value, parts(pointer), new, add)


def _put(value: Any, path: list[str], new: Any, add: bool) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    if add and not rest and isinstance(value, dict):
        return {**value, key: new}
    place = _place(value, key)
    inner = _put(value[place], rest, new, add)
    if isinstance(value, dict):
        return {**value, place: inner}
    return [*value[:place], inner, *value[place + 1 :]]


def _place(value: Any, key: str) -> Any:
    """Returns the key or index in `value` to which `key`, a part of a pointer, leads. Raises LookupError if there is
    none."""
    if isinstance(value, dict) and key in value:
        return key
    if isinstance(value, list) and key.isascii() and key.isdecimal() and int(key) < len(value):
        return int(key)
    raise LookupError(key)
