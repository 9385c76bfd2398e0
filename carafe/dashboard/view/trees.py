"""Limits how much of a JSON value a page draws as a tree: all of a small value, and the beginning of a large one.

A page contains only what `shown` returns of a value. Where something is left out, the tree says so, and the page links to
the whole value.
"""

from html import escape
from typing import Any

from carafe.dashboard.view.formatting import Cut, kind_of, scalar_text
from carafe.jobs.stored_json import written

SMALL = 2_000
"""A value with at most this many characters of JSON is small. A page may contain a small value more than once: as a tree, as
raw text, and within commands."""

LARGEST = 100_000
"""The maximum number of characters of HTML that a tree may have."""

_MARKUP = 90
"""Characters of HTML around one value, by estimate."""

_DEEPEST = 10
"""How many levels of nesting a tree shows."""


def shown(value: Any) -> tuple[Any, bool]:
    """Returns the value, with `Cut` in place of parts that do not fit, and whether it is small. A small value is whole."""
    size = len(written(value))
    if size <= SMALL:
        return value, True
    return _pruned(value, [min(int(1.5 * size), LARGEST)], 0), False


def _pruned(value: Any, left: list[int], depth: int) -> Any:
    """Returns as much of the value's beginning as fits into `left[0]` characters, and lowers `left[0]` by what it uses."""
    if isinstance(value, dict | list | tuple):
        left[0] -= _MARKUP
        if depth >= _DEEPEST:
            return Cut("… nested deeper: see the raw text")
        made: Any = {} if isinstance(value, dict) else []
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for number, (name, inner) in enumerate(items):
            left[0] -= len(escape(str(name))) if isinstance(value, dict) else 0
            if left[0] <= 0 or number >= 200:
                more = Cut(f"{len(value) - number:,} more: see the raw text")
                if isinstance(made, dict):
                    made["…"] = more
                else:
                    made.append(Cut(f"… {more}"))
                break
            found = _pruned(inner, left, depth + 1)
            if isinstance(made, dict):
                made[name] = found
            else:
                made.append(found)
        return made
    text = scalar_text(value)
    left[0] -= _MARKUP
    if kind_of(value) != "text" or len(escape(text)) <= max(left[0], 0):
        left[0] -= len(escape(text))
        return value
    room = max(left[0], 0) // 6
    left[0] = 0
    return Cut(f"{text[:room]}… {len(text):,} characters: see the raw text")
