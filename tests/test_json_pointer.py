"""JSON pointers (RFC 6901)."""

from typing import Any

import pytest

from carafe import json_pointer

DOCUMENT = {"a/b": 1, "m~n": 2, "": 3, "list": ["x", {"y": None}], "~1": 4}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("", DOCUMENT), ("/a~1b", 1), ("/m~0n", 2), ("/", 3), ("/list/1/y", None), ("/~01", 4)],
)
def test_a_pointer_leads_to_its_value(pointer: str, value: Any) -> None:
    assert json_pointer.get(DOCUMENT, pointer) == value


@pytest.mark.parametrize("pointer", ["/none", "/list/2", "/list/-1", "/list/٠", "/list/x", "/a~1b/c", "/list/1/y/z"])
def test_a_pointer_to_nothing_is_a_lookup_error(pointer: str) -> None:
    with pytest.raises(LookupError):
        json_pointer.get(DOCUMENT, pointer)
    with pytest.raises(LookupError):
        json_pointer.put(DOCUMENT, pointer, "new")


@pytest.mark.parametrize("key", ["a/b", "m~n", "", "~1", "/~0~"])
def test_any_key_comes_back_from_its_pointer(key: str) -> None:
    assert json_pointer.parts(json_pointer.below("/x", key)) == ["x", key]


def test_a_value_is_put_into_a_copy() -> None:
    assert json_pointer.put(DOCUMENT, "/list/1/y", 5)["list"] == ["x", {"y": 5}]
    assert DOCUMENT["list"] == ["x", {"y": None}]
    assert json_pointer.put({"a": {}}, "/a/b", 1, add=True) == {"a": {"b": 1}}
    with pytest.raises(LookupError):
        json_pointer.put({}, "/a/b", 1, add=True)
