"""Checks how jobs, handlers and hooks are declared. A mistake stops the import with an explanation, instead of failing the
first job.

Every error raised here is a ``TypeError`` that names the class or function, what it was given, and what to write instead.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from carafe.jobs.options import CLASS_OPTIONS
from carafe.jobs.round_trip import aliases_of, shared_name
from carafe.jobs.secret_fields import behind_plain
from carafe.texts import class_name, shown

LONGEST_KIND = 200
"""The maximum number of characters that a kind may have."""

KIND = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_KIND - 1}}}")
"""The form of a kind. Its characters need no quoting in a URL, a metric's label, a log line or a shell."""

KEYWORDS = ("kind", *CLASS_OPTIONS, "version")
_MEANT = {
    "retries": "max_retries",
    "max_attempts": "max_retries",
    "attempts": "max_retries",
    "name": "kind",
    "time_limit": "timeout",
}
"""For each name that other job systems use for a class keyword: Carafe's keyword for the same thing."""


def checked_kind(name: str, kind: Any) -> str:
    """Returns `kind` if it has the form of a kind. Otherwise raises ``TypeError``, which names the class by `name`."""
    if isinstance(kind, str) and KIND.fullmatch(kind):
        return kind
    raise TypeError(f"{name}: {kind_words(kind)}")


def kind_words(kind: Any) -> str:
    """The message that says why `kind` is not a valid kind."""
    return (
        f"kind must be 1 to {LONGEST_KIND} letters (a to z), digits, '.', '_' and '-', "
        f'the first a letter or a digit (got {shown(kind)}): kind="report.export"'
    )


def takes(keyword: str) -> bool:
    """Whether a class keyword is an option of pydantic's model configuration."""
    return keyword in ConfigDict.__annotations__


def check_keywords(cls: type[Any], given: Iterable[str], known: type[Any]) -> None:
    """Raise ``TypeError`` for a class keyword that is not part of pydantic's configuration. But raise nothing if a class
    after `known` (the class Job) in the method resolution order takes class keywords: the keyword may belong to it."""
    unknown = [keyword for keyword in given if not takes(keyword)]
    order = cls.__mro__
    behind = order[order.index(known) + 1 :]
    if unknown and not any("__init_subclass__" in vars(parent) for parent in behind if _takes_keywords(parent)):
        raise TypeError(f"{cls.__name__}: {unknown_keyword(unknown[0])}")


def _takes_keywords(parent: type[Any]) -> bool:
    return parent is not object and parent is not BaseModel and parent.__module__ != "typing"


def unknown_keyword(keyword: str) -> str:
    """The error message for an unknown class keyword. It names the keyword that may have been meant."""
    import difflib

    close = difflib.get_close_matches(keyword, KEYWORDS, n=1)
    meant = _MEANT.get(keyword) or (close[0] if close else None)
    hint = f"did you mean {meant}=?" if meant else "a job's own data are fields in its body"
    return f"a job has no option {keyword}=; {hint} (options: {', '.join(KEYWORDS)}, and pydantic's configuration)"


def check_job_class(where: str, job: Any, root: type[Any]) -> None:
    """Raise TypeError unless `job`, the argument of a decorator as in ``@handler(Export)``, is a class that declares a
    kind."""
    if isinstance(job, type) and issubclass(job, root):
        if getattr(job, "job_options", None) is None:
            raise TypeError(f"{where}: {no_kind(job)}")
        return
    if isinstance(job, root):
        raise TypeError(f"{where}: takes a job class, not an instance of one: write {where}({type(job).__name__})")
    raise TypeError(f"{where}: takes a job class first, as in {where}(Export) (got {shown(job)})")


def no_kind(job: type[Any]) -> str:
    """The error message for a job class that declares no kind, used where a kind is needed."""
    name = job.__name__
    for parent in job.__mro__[1:]:
        options = getattr(parent, "job_options", None)
        if options is not None:
            words = f"{name} declares no kind of its own, and its jobs would be run as its parent's ({options.kind!r})"
            return f"{words}: class {name}({parent.__name__}, kind=...)"
    return f"{name} declares no kind: class {name}(Job, kind=...)"


def check_fields(cls: type[BaseModel]) -> None:
    """Raise ``TypeError`` if a job class has a field whose value could not be read back from the stored arguments as it
    was, or whose secrets would be stored as plain values."""
    for name, field in cls.model_fields.items():
        if field.exclude:
            raise TypeError(
                f"{cls.__name__}: the field {name} has exclude=True, so it is not stored and its handler would not get it: "
                "leave exclude out, or make it a private attribute (PrivateAttr)"
            )
    if (field_name := behind_plain(cls)) is not None:
        raise TypeError(
            f"{cls.__name__}: in the field {field_name}, a plain type stands before a secret one in a union and accepts "
            "the same values, so that no value would be secret: write the secret type first, as in SecretStr | str, or alone"
        )
    if (found := shared_name(aliases_of(cls))) is not None:
        one, other = found
        raise TypeError(
            f"{cls.__name__}: {other!r} is an alias of the field {one} and also the name of another field: arguments are "
            f"stored by the fields' names, so {one} would be read from {other}'s value; rename one of them"
        )


def check_upgrade(cls: type[Any], root: type[Any]) -> None:
    """Raise ``TypeError`` unless the class's `upgrade` can be called as a worker calls it."""
    upgrade = cls.upgrade
    if getattr(upgrade, "__func__", None) is root.upgrade.__func__:
        return
    where = f"{cls.__name__}.upgrade"
    if is_async(upgrade) or inspect.isgeneratorfunction(upgrade) or inspect.isasyncgenfunction(upgrade):
        raise TypeError(
            f"{where}: is called without being awaited or iterated: write a plain `def` that returns the arguments"
        )
    try:
        _signature(upgrade).bind({}, 1)
    except TypeError:
        raise TypeError(f"{where}: write it as @classmethod def upgrade(cls, arguments, version)") from None
    except ValueError:
        return  # written in C, or the like: nothing is known of its parameters


def is_async(function: Any) -> bool:
    """Whether calling `function` returns a coroutine. It does if `function` is an ``async def``, a wrapper of one, or an
    object whose ``__call__`` is one."""
    if not callable(function):
        return False
    return any(inspect.iscoroutinefunction(found) for found in (function, inspect.unwrap(function), type(function).__call__))


def check_function(where: str, function: Callable[..., Any], gets: str) -> None:
    """Raise ``TypeError`` unless `function` can be called with two arguments (the text `gets` says which) and is not a
    generator."""
    name = name_of(function)
    if not callable(function):
        raise TypeError(f"{where}: must decorate a function (got {shown(function)})")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{where}: {name} yields, and nobody would iterate it: return a value instead")
    try:
        signature = _signature(function)
    except (TypeError, ValueError):
        return  # written in C, or the like: nothing is known of its parameters
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(f"{where}: {name}{signature} is called with {gets}: give it exactly these two parameters") from None


def annotation_of_second(function: Callable[..., Any]) -> Any:
    """The annotation of a function's second parameter. Returns None if there is no annotation, or it cannot be evaluated."""
    try:
        parameters = list(_signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    found = parameters[1].annotation if len(parameters) > 1 else None
    return getattr(function, "__globals__", {}).get(found) if isinstance(found, str) else found


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated when they are asked for: those of names for type checkers alone would raise.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def name_of(function: Any) -> str:
    """A function's module and name, for messages. For a `functools.partial`, those of the wrapped function; for any other
    object, those of its class."""
    function = getattr(function, "func", function)
    name = getattr(function, "__qualname__", None)
    return f"{getattr(function, '__module__', None)}.{name}" if isinstance(name, str) else class_name(function)
