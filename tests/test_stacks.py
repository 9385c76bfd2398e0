"""Stacks of threads and coroutines, as lines of text."""

from types import CodeType
from typing import Any

from carafe.process import stacks

FORGED = "a.py\nforged.py:1 in \x1b[31mnothing\u202e"


def test_the_name_of_a_file_or_function_begins_no_line() -> None:
    scope: dict[str, Any] = {}
    exec("async def handler(): await handler.waits", scope)
    code: CodeType = scope["handler"].__code__
    scope["handler"].__code__ = code.replace(co_filename=FORGED, co_qualname=FORGED)
    coroutine = scope["handler"]()
    [line] = stacks.of_coroutine(coroutine)
    coroutine.close()
    assert line.isprintable()
    assert line.startswith("a.py\\nforged.py")
