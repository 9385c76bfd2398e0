"""Replaces a job's secrets (the values of its secret fields) in everything that is stored or logged about its attempt:
errors, tracebacks, log lines, progress notes, results.

Guarantees: a secret of `SHORTEST` characters or more is replaced wherever it appears whole, as it is or as Python, JSON and
URLs write it, and also where a text was cut within it. A value that cannot be searched is replaced as a whole.
Does not find: secrets that were changed (encoded in another way, split over lines), secrets in what a handler prints,
secrets shorter than `SHORTEST`, and keys of a secret dictionary that look like names (`_NAME`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, quote_plus

import orjson

from carafe.jobs.definition import Job, job_class, load
from carafe.jobs.secret_fields import REDACTED, may_hold_secrets, secrets_in
from carafe.jobs.stored_json import readable, written
from carafe.texts import clean, text_of

SHORTEST = 6
"""Secrets with fewer characters than this are not replaced, since they appear by chance in too many texts."""


class Knowing(Protocol):
    """An object with an attempt's `Hiding`: in the worker the attempt's `Claim`, in a child process the `Answers`."""

    hiding: "Hiding | None"


class Hiding:
    """Replaces the secrets of one attempt in texts and values. The methods may be called from any thread."""

    __slots__ = ("_forms", "_known", "_pattern", "_values")

    def __init__(self, values: Iterable[Any]) -> None:
        """`values` are the values of the secrets, not masked. They are read only when the first text or value is
        searched."""
        self._values = values
        self._forms: list[str] | None = None

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Hiding | None":
        """Returns a `Hiding` for `values`, the unmasked values of secrets. Returns None if no secret is long enough to be
        replaced."""
        hiding = cls(values)
        return hiding if hiding._all_forms() else None

    def _all_forms(self) -> list[str]:
        """Returns the secrets in every way in which they may be written, the longest first, since a longer one may begin
        with a shorter one."""
        if self._forms is None:
            found = {form for value in self._values for text in _texts(value) for form in _forms(text)}
            self._known = frozenset(form for form in found if len(form) >= SHORTEST)
            forms = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, forms)) or r"(?!)")
            self._forms = forms
        return self._forms

    def text(self, text: str) -> str:
        """Returns the text with all secrets replaced."""
        forms = self._all_forms()
        return _cut(forms, self._pattern.sub(REDACTED, text))

    def json(self, text: str) -> str:
        """Returns the JSON text with all secrets replaced, which is still valid JSON."""
        self._all_forms()
        if self._pattern.search(text) is None:
            return text
        return written(self.value(readable(text))).decode()

    def value(self, value: Any) -> Any:
        """Returns a copy of the value with all secrets replaced: texts, lists and dictionaries keep their shape. An object
        whose ``str`` or ``repr`` contains a secret becomes a text."""
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
    """Returns the job object that a claimed row describes, and sets `attempt.hiding` so that the job's secrets are replaced.
    Raises the same errors as `definition.load`."""
    args, version = row["args"], row["version"]
    if not may_hold_secrets(job_class):
        return load(job_class, args, version)
    # Until they are known, any text of the arguments may be one: a validator of the application's may raise it.
    attempt.hiding = Hiding([readable(args)])
    job = load(job_class, args, version)
    attempt.hiding = Hiding.of(secrets_in(job))
    return job


def hiding_of(kind: str, args: str, version: int | None) -> Hiding | None:
    """Returns the `Hiding` of a job that has ended or does not run here, from its stored arguments (`args`, and their
    `version`; None: that of the class). It is for texts by the application's code about such a job, as by its hooks. Returns
    None if the job has no secrets. Never raises: while the secrets of arguments cannot be told from the rest, because they
    no longer fit the class, every text of them counts as a secret."""
    stored = readable(args)
    try:
        cls = job_class(kind)
        if not may_hold_secrets(cls):
            return None
        return Hiding.of(secrets_in(load(cls, args, cls.job_options.version if version is None else version)))
    except BaseException:
        return Hiding.of([stored])


def _cut(forms: Sequence[str], text: str) -> str:
    """If the text was cut in the middle of a secret, at its end or its beginning, replaces the part of the secret that is
    left. Returns the text."""
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
    """Returns the length of the longest text that `form` begins with and `tail` ends with. Returns 0 if that is shorter than
    `SHORTEST`.

    The number of steps is proportional to the lengths of both texts, even if they contain many repetitions (Knuth, Morris
    and Pratt: Fast Pattern Matching in Strings, 1977).
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


_NAME = re.compile(r"(?=.{1,32}\Z)[A-Za-z]+(?:[-_. ][A-Za-z]+)*")
"""The keys of dictionaries that are taken for names of what they hold (``password``, ``Content-Type``). Errors and logs
would be unreadable without these words."""


def _texts(value: Any) -> Iterator[str]:
    """Yields the texts in a secret's value: the value itself, or the texts inside it, keys that are not names included."""
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
                waiting += [key for key in found if not (isinstance(key, str) and _NAME.fullmatch(key))]
            elif isinstance(found, list | tuple | set | frozenset):
                waiting += found
            elif getattr(found, "__dict__", None):
                waiting += vars(found).values()
            else:
                yield text_of(found)


def _forms(text: str) -> Iterator[str]:
    """Yields a text unchanged, and in the forms in which Python, JSON and URLs escape it."""
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
