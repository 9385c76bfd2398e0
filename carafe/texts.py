"""Turns objects of foreign code into text: errors, reasons, values in a log line.

Guarantees: every function here returns a plain `str` within its limit that Postgres can store (no NUL, no lone surrogate),
whatever the object does. The object's ``__str__`` may raise or return no text, its ``__class__`` may lie, its names may not
be strings, its chains and groups may have any depth, and its text any size. Must never: raise, or call an object's own
methods where its type says enough.
"""

import traceback
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from types import NoneType, TracebackType
from typing import Any

MAX_ERROR = 10_000
"""The maximum number of characters of an error message that are kept; the rest is cut off."""

SHOWN = 100
"""The maximum number of characters of a value in an error message."""

MAX_TRACEBACK = 20_000
"""The maximum number of characters of a traceback that are kept. The beginning of a longer one is cut off."""

MAX_FRAMES = 100
"""The maximum number of frames of one exception that a traceback shows: the last ones."""

MAX_CHAIN = 20
"""The maximum number of exceptions in a chain that a traceback shows: the one that was raised, and its causes and
contexts."""

MAX_GROUP = 100
"""The maximum number of exceptions in groups and chains that a traceback shows. A larger group is shown without its
members."""

_OWN = "/carafe/engine/"
"""A part of the path of the engine's source files. A traceback leaves their frames out, since its reader looks for the
frames of the handler."""

_NAME: Any = vars(type)["__qualname__"]
_MODULE: Any = vars(type)["__module__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_CONTEXT: Any = vars(BaseException)["__context__"]
_SUPPRESSED: Any = vars(BaseException)["__suppress_context__"]
_TRACEBACK: Any = vars(BaseException)["__traceback__"]
_WITHIN: Any = vars(BaseExceptionGroup)["exceptions"]
# These read the types' own attributes: a class that overrides such an attribute is not asked.


def clean(text: Any, limit: int) -> str:
    """Returns `text` in a form that Postgres can store: without NUL and lone surrogates, at most `limit` characters. If
    `text` is not a plain `str`, `text_of` turns it into one first."""
    if type(text) is not str:
        return text_of(text, limit)
    # More than the limit is never looked at; the rest may grow by what is escaped.
    kept: str = text[: limit + 1].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def text_of(value: Any, limit: int = MAX_ERROR) -> str:
    """Returns ``str(value)``, cleaned by `clean`. If ``str`` raises an error, returns a phrase that says so."""
    try:
        text = value if issubclass(type(value), str) else str(value)
        # By `str` itself: a subclass may have methods of its own. The end of a text of gigabytes is not looked at.
        return clean(str.__getitem__(text, slice(limit + 1)), limit)
    except BaseException as error:
        return f"({class_name(value)}, whose text cannot be made: {class_name(error)})"[:limit]


def class_name(value: Any) -> str:
    """The name of an object's true class, with its module unless the class is a builtin."""
    try:
        kind = type(value)
        name, module = _NAME.__get__(kind), _MODULE.__get__(kind)
        if type(module) is not str or module == "builtins":
            return clean(name, 500)
        return clean(f"{module}.{name}", 500)
    except BaseException:
        return "an unknown class"


def shown(value: Any) -> str:
    """A short text about any value, for an error message: a plain value itself, and for any other value only its class.
    Never raises, whatever the value does, since the engine also calls it with values from handlers."""
    try:
        kind = type(value)
        if kind in (str, bytes):
            return _short(repr(value[:SHOWN]), len(value) > SHOWN)
        if kind in (int, float, bool, NoneType, datetime, date, timedelta):
            return _short(repr(value))
        if issubclass(kind, type):
            return f"the class {clean(_NAME.__get__(value), SHOWN)}"
        name = getattr(value, "__qualname__", None)
        if type(name) is str:
            return f"the function {clean(name, SHOWN)}"
    except BaseException:
        pass
    return f"an object of {class_name(value).rpartition('.')[2]}"


def _short(text: str, more: bool = False) -> str:
    return text if len(text) <= SHOWN and not more else text[:SHOWN] + "…"


def is_storable(text: str) -> bool:
    """Whether Postgres can store this text: it stores neither NUL nor a surrogate. (Python puts surrogates in place of
    command-line bytes that are not UTF-8.)"""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def in_words(error: BaseException, limit: int = MAX_ERROR) -> str:
    """An exception as one text: its class and its message."""
    message = text_of(error, limit)
    return clean(f"{class_name(error)}: {message}" if message else class_name(error), limit)


def reason_of(value: Any, instead: str = "no reason given") -> str:
    """The text of a reason that is given as a text, an exception, bytes, a number or None. Returns `instead` if the reason
    is None or empty."""
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
    """Describes an exception as a tuple (class, message, traceback), each part within its limit."""
    return class_name(error), text_of(error), traceback_of(error)


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception and of its causes, without the frames of the engine. Only the end of a long one is
    kept."""
    try:
        parts: list[str] = []
        for link, word in _chain(error):
            parts[:0] = [*_formatted(link), word]
        return clean("".join(parts)[-MAX_TRACEBACK:], MAX_TRACEBACK)
    except BaseException as failure:
        return f"(no traceback: it cannot be made: {class_name(failure)})\n"


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yields the exception, then its cause or context, then the cause or context of that exception, back to the first. Each
    comes with the sentence that Python writes after it in a traceback."""
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
    """One exception as Python formats it. If Python cannot format it, or would take very long, returns only its frames and
    its message."""
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
    """Whether Python formats this exception in reasonable time. Python visits every exception in its chains and groups, even
    those that it does not show."""
    # Python visits an exception that occurs twice two times, so it counts twice.
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
