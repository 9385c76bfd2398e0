"""Texts of objects that somebody else's code has made: errors, reasons, values in a log line.

Guarantees: every function here is total. Whatever the object does (a ``__str__`` that raises or returns no text, a
``__class__`` that lies, names that are no strings, chains and groups of any depth, a text of any size) there is an answer: a
plain `str` within its limit, which Postgres can store (no NUL, no lone surrogate).
Must never: raise anything, or ask an object for what its type can tell.
"""

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

MAX_ERROR = 10_000
"""Characters of an error message that are kept."""

MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept, its end."""

MAX_FRAMES = 100
"""Frames of one exception that a traceback shows, its last."""

MAX_CHAIN = 20
"""Exceptions that a traceback shows: the one that was raised, and those that it came from."""

MAX_GROUP = 100
"""Exceptions inside a group that a traceback shows; a larger or deeper group is shown without them."""

_OWN = "/carafe/engine/"
"""Frames of the engine are left out: the reader looks for the handler's."""

_NAME: Any = vars(type)["__qualname__"]
_MODULE: Any = vars(type)["__module__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
_SUPPRESSED: Any = vars(BaseException)["__suppress_context__"]
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_WITHIN: Any = vars(BaseExceptionGroup)["exceptions"]
# Read by the types' own descriptors: what a class puts in their place is not asked.


def clean(text: Any, limit: int) -> str:
    """Text that Postgres can store: no NUL, no lone surrogate, at most `limit` characters; of anything but a text, what
    `text_of` says."""
    if type(text) is not str:
        return text_of(text, limit)
    # More than the limit is never looked at; the rest may grow by what is escaped.
    kept: str = text[: limit + 1].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def text_of(value: Any, limit: int = MAX_ERROR) -> str:
    """What `str` says of an object, cleaned; in words when it says nothing."""
    try:
        text = value if issubclass(type(value), str) else str(value)
        # By `str` itself: a subclass may have methods of its own. The end of a text of gigabytes is not looked at.
        return clean(str.__getitem__(text, slice(limit + 1)), limit)
    except BaseException as error:
        return f"({class_name(value)}, whose text cannot be made: {class_name(error)})"[:limit]


def class_name(value: Any) -> str:
    """The true class of an object, with its module unless it is a builtin."""
    try:
        kind = type(value)
        name, module = _NAME.__get__(kind), _MODULE.__get__(kind)
        if type(module) is not str or module == "builtins":
            return clean(name, 500)
        return clean(f"{module}.{name}", 500)
    except BaseException:
        return "an unknown class"


def in_words(error: BaseException, limit: int = MAX_ERROR) -> str:
    """An exception in one text: its class and its message."""
    message = text_of(error, limit)
    return clean(f"{class_name(error)}: {message}" if message else class_name(error), limit)


def reason_of(value: Any, instead: str = "no reason given") -> str:
    """A reason as people give it (a text, an exception, bytes, a number, None) as text; `instead` of None and nothing."""
    try:
        kind = type(value)
        if value is None:
            return instead
        if issubclass(kind, BaseException):
            return in_words(value)
        if issubclass(kind, bytes | bytearray):
            value = bytes(value[: 4 * MAX_ERROR]).decode("utf-8", "replace")
        return text_of(value) or instead
    except BaseException:
        return instead


def describe(error: BaseException) -> tuple[str, str, str]:
    """An exception as (class, message, traceback), each within its limit."""
    return class_name(error), text_of(error), traceback_of(error)


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception with what it came from, without the engine's own frames; its end, when it is long."""
    try:
        parts: list[str] = []
        for link, word in _chain(error):
            parts[:0] = [*_formatted(link), word]
        return clean("".join(parts)[-MAX_TRACEBACK:], MAX_TRACEBACK)
    except BaseException as failure:
        return f"(no traceback: it cannot be made: {class_name(failure)})\n"


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """The exception and those that it came from, each with the words that stand between it and the next."""
    link: BaseException | None = error
    word = ""
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        if len(seen) == MAX_CHAIN:
            return
        yield link, word
        seen.add(id(link))
        cause = _CAUSE.__get__(link)
        if cause is not None:
            link, word = cause, "\nThe above exception was the direct cause of the following exception:\n\n"
        else:
            link = None if _SUPPRESSED.__get__(link) else _CONTEXT.__get__(link)
            word = "\nDuring handling of the above exception, another exception occurred:\n\n"


def _formatted(error: BaseException) -> list[str]:
    """One exception as Python shows it; of one that it cannot show (or only in a long time), its frames and words."""
    frames = _handlers_frames(error)
    try:
        if _may_be_shown_whole(error):
            return traceback.format_exception(type(error), error, frames, limit=-MAX_FRAMES, chain=False)
    except BaseException:
        pass
    try:
        shown = traceback.format_tb(frames, limit=-MAX_FRAMES)
    except BaseException as failure:
        shown = [f"  (its frames cannot be shown: {class_name(failure)})\n"]
    return ["Traceback (most recent call last):\n", *shown, f"{in_words(error)}\n"]


def _handlers_frames(error: BaseException) -> TracebackType | None:
    whole: TracebackType | None = _TRACEBACK.__get__(error)
    frames = whole
    while frames is not None and _OWN in frames.tb_frame.f_code.co_filename.replace("\\", "/"):
        frames = frames.tb_next
    return frames or whole


def _may_be_shown_whole(error: BaseException) -> bool:
    """Whether Python's own way ends in good time: it walks groups and chains to their last, whatever of them is shown."""
    # One that is in it twice is walked twice, so it counts twice.
    count = 0
    waiting: list[tuple[Any, int]] = [(error, 0)]
    while waiting:
        found, depth = waiting.pop()
        if found is None:
            continue
        count += 1
        if count > MAX_GROUP or depth > MAX_CHAIN:
            return False
        waiting += [(_CAUSE.__get__(found), depth + 1), (_CONTEXT.__get__(found), depth + 1)]
        if issubclass(type(found), BaseExceptionGroup):
            waiting += [(within, depth + 1) for within in _WITHIN.__get__(found)]
    return True
