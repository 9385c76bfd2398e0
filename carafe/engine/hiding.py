"""Replaces the values of a job's secret fields in all that its attempt leaves: errors, tracebacks, logs, notes, results.

Guarantees: a value of `SHORTEST` characters or more is replaced wherever it stands whole, as it is and as Python, JSON and
URLs write it, also where a text was cut within it. Total: what cannot be looked through is left out.
Does not find a value that was changed (encoded otherwise, split over lines), what a handler prints, or shorter ones.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import orjson

from carafe.jobs.definition import Job, load
from carafe.jobs.secret_fields import REDACTED, may_hold_secrets, secrets_in
from carafe.jobs.stored_json import readable, written
from carafe.texts import clean, text_of

SHORTEST = 6
"""Characters of a value that is replaced, at least: shorter ones stand in too many texts that do not mean them."""


class Knowing(Protocol):
    """What knows what is to be hidden of an attempt: its claim, or in a child process what answers."""

    hiding: "Hiding | None"


class Hiding:
    """The values of one attempt. Methods from any thread."""

    __slots__ = ("_forms", "_known", "_pattern", "_values")

    def __init__(self, values: Iterable[Any]) -> None:
        """Of plain values of secrets, which are looked at when there is first something that may show one."""
        self._values = values
        self._forms: list[str] | None = None

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Hiding | None":
        """Of plain values of secrets; None when none is long enough."""
        hiding = cls(values)
        return hiding if hiding._all_forms() else None

    def _all_forms(self) -> list[str]:
        """The values in every way that they may be written, the longest first: one may begin with another."""
        if self._forms is None:
            found = {form for value in self._values for text in _texts(value) for form in _forms(text)}
            self._known = frozenset(form for form in found if len(form) >= SHORTEST)
            forms = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, forms)) or r"(?!)")
            self._forms = forms
        return self._forms

    def text(self, text: str) -> str:
        """A text without the values."""
        forms = self._all_forms()
        return _cut(forms, self._pattern.sub(REDACTED, text))

    def json(self, text: str) -> str:
        """JSON without the values, still JSON."""
        self._all_forms()
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
            self._all_forms()
            return REDACTED if str(value) in self._known else value
        self._all_forms()
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
    attempt.hiding = Hiding([readable(args)])
    job = load(job_class, args, version)
    attempt.hiding = Hiding.of(secrets_in(job))
    return job


def _cut(forms: Sequence[str], text: str) -> str:
    """A text without what is left of a value within which it was cut, at its end or its beginning."""
    end = "…" if text.endswith("…") else ""
    kept = text.removesuffix("…")
    for form in forms:
        length = min(len(form) - 1, len(kept))
        if length >= SHORTEST and (found := overlap(form[:length], kept[-length:])):
            kept = kept[:-found] + REDACTED
            length = min(len(form) - 1, len(kept))
        if length >= SHORTEST and (found := overlap(form[-length:][::-1], kept[:length][::-1])):
            kept = REDACTED + kept[found:]
    return kept + end


def overlap(form: str, tail: str) -> int:
    """Characters of the longest beginning of `form` that `tail` ends with, 0 for fewer than `SHORTEST`.

    In steps that grow with the lengths alone, whatever repeats itself in them (Knuth, Morris and Pratt: Fast Pattern
    Matching in Strings, 1977).
    """
    if form[:SHORTEST] not in tail:
        return 0
    # The longest beginning of the form that each of its beginnings ends with, itself left out.
    within = [0] * len(form)
    matched = 0
    for at in range(1, len(form)):
        while matched and form[at] != form[matched]:
            matched = within[matched - 1]
        if form[at] == form[matched]:
            matched += 1
        within[at] = matched
    matched = 0
    for character in tail:
        if matched == len(form):
            matched = within[matched - 1]
        while matched and character != form[matched]:
            matched = within[matched - 1]
        if character == form[matched]:
            matched += 1
    return matched if matched >= SHORTEST else 0


def _texts(value: Any) -> Iterator[str]:
    """The texts in a secret's value: itself, or those inside."""
    waiting, seen = [value], set[int]()
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, bytes | bytearray):
            yield bytes(found).decode("utf-8", "backslashreplace")
            yield repr(bytes(found))[2:-1]
        elif found is None or isinstance(found, bool) or id(found) in seen:
            continue
        else:
            seen.add(id(found))
            if isinstance(found, dict):
                waiting += found.values()
            elif isinstance(found, list | tuple | set | frozenset):
                waiting += found
            elif getattr(found, "__dict__", None):
                waiting += vars(found).values()
            else:
                yield text_of(found)


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
