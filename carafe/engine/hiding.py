"""Replaces the values of a job's secret fields in all that its attempt leaves: errors, tracebacks, logs, notes, results.

Guarantees: a value of `SHORTEST` characters or more is replaced wherever it stands whole, as it is and as Python, JSON and
URLs write it, also where a text was cut within it. Total: what cannot be looked through is left out.
Does not find a value that was changed (encoded otherwise, split over lines), what a handler prints, or shorter ones.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import orjson

from carafe.jobs.definition import Job, load
from carafe.jobs.secret_fields import REDACTED, may_hold_secrets, secrets_in
from carafe.jobs.stored_json import readable, written
from carafe.texts import clean

SHORTEST = 6
"""Characters of a value that is replaced, at least: shorter ones stand in too many texts that do not mean them."""


class Knowing(Protocol):
    """What knows what is to be hidden of an attempt: its claim, or in a child process what answers."""

    hiding: "Hiding | None"


class Hiding:
    """The values of one attempt. Methods from any thread."""

    __slots__ = ("_forms", "_pattern")

    def __init__(self, forms: Iterable[str]) -> None:
        # The longest first: one may begin with another.
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Hiding | None":
        """Of plain values of secrets; None when none is long enough."""
        forms = {form for value in values for text in _texts(value) for form in _forms(text) if len(form) >= SHORTEST}
        return cls(forms) if forms else None

    def text(self, text: str) -> str:
        """A text without the values."""
        return self._cut(self._pattern.sub(REDACTED, text))

    def _cut(self, text: str) -> str:
        """The same of a text that was cut at its end or its beginning, within a value."""
        end = "…" if text.endswith("…") else ""
        kept = text.removesuffix("…")
        for form in self._forms:
            for length in range(min(len(form) - 1, len(kept)), SHORTEST - 1, -1):
                if kept.endswith(form[:length]):
                    kept = kept[:-length] + REDACTED
                    break
            for length in range(min(len(form) - 1, len(kept)), SHORTEST - 1, -1):
                if kept.startswith(form[-length:]):
                    kept = REDACTED + kept[length:]
                    break
        return kept + end

    def json(self, text: str) -> str:
        """JSON without the values, still JSON."""
        if self._pattern.search(text) is None:
            return text
        return written(self.value(readable(text))).decode()

    def value(self, value: Any) -> Any:
        """Any value without them, of the same shape; an object that shows one becomes a text."""
        try:
            return self._plain(value)
        except Exception:
            return REDACTED  # it cannot be looked through: nested without end, or it cannot say what it is

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self._plain(key): self._plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(inner) for inner in value]
        if isinstance(value, int | float):
            return REDACTED if str(value) in self._forms else value
        for shown in (str(value), repr(value)):
            if self._pattern.search(shown):
                return self.text(shown)
        return value


def loaded(job_class: type[Job], row: Mapping[str, Any], attempt: Knowing) -> Job:
    """The job object of a claimed row; its attempt knows from here on what to hide. Raises as `definition.load`."""
    args, version = row["args"], row["version"]
    if not may_hold_secrets(job_class):
        return load(job_class, args, version)
    # Until they are known, any text of the arguments may be one: a validator of the application's may raise it.
    attempt.hiding = Hiding.of([readable(args)])
    job = load(job_class, args, version)
    attempt.hiding = Hiding.of(secrets_in(job))
    return job


def _texts(value: Any) -> Iterator[str]:
    """The texts in a secret's value: itself, or those inside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray):
        yield bytes(value).decode("utf-8", "backslashreplace")
        yield repr(bytes(value))[2:-1]
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _texts(inner)
    elif hasattr(value, "__dict__") and value.__dict__:
        for inner in value.__dict__.values():
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _forms(text: str) -> Iterator[str]:
    """A text as it is, and as Python, JSON and URLs write it."""
    yield text
    yield clean(text, len(text) * 10 + 1)
    yield repr(text)[1:-1]
    yield json.dumps(text)[1:-1]
    try:
        yield orjson.dumps(text).decode()[1:-1]
        yield quote(text, safe="")
        yield quote(text)
        yield quote_plus(text)
    except (TypeError, UnicodeError):
        pass  # half a surrogate pair: has no such form
