"""What of a JSON value a page draws as a tree: all of it, if it is small, and else as much as fits.

A page holds a value once, and no more of it than `shown` leaves; what it leaves out is said in its place, and all of it is a
link away.
"""

from html import escape
from typing import Any

from carafe.jobs.stored_json import written
from carafe.web.dashboard.formatting import Cut, kind_of, scalar_text

SMALL = 2_000
"""Characters of JSON that a page may hold more than once (as raw text, within commands)."""

LARGEST = 100_000
"""Characters of markup that a tree may have."""

_MARKUP = 90
"""Characters of markup around one value."""

_DEEPEST = 10


def shown(value: Any) -> tuple[Any, bool]:
    """The value with what does not fit replaced by `Cut`, and whether it is small: then it is whole."""
    size = len(written(value))
    if size <= SMALL:
        return value, True
    return _pruned(value, [min(int(1.5 * size), LARGEST)], 0), False


def _pruned(value: Any, left: list[int], depth: int) -> Any:
    """The beginning of the value that fits into `left[0]` characters, which it lessens."""
    if isinstance(value, dict | list | tuple):
        left[0] -= _MARKUP
        if depth >= _DEEPEST:
            return Cut("… deeper, in the raw text")
        made: Any = {} if isinstance(value, dict) else []
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for number, (name, inner) in enumerate(items):
            left[0] -= len(escape(str(name))) if isinstance(value, dict) else 0
            if left[0] <= 0 or number >= 200:
                more = Cut(f"{len(value) - number:,} more, in the raw text")
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
    return Cut(f"{text[:room]}… {len(text):,} characters, in the raw text")
