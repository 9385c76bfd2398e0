"""Shows a page's filter of jobs as chips, one for each condition, and writes filters into the URLs of pages.

Must never: let a viewer who may not see arguments search by their values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from carafe.dashboard.security.access import Viewer
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view.formatting import short_id, stamp
from carafe.jobs.records import Count
from carafe.store.filter_words import WORDS, Word, is_condition
from carafe.store.filters import JobFilter


@dataclass(frozen=True, slots=True)
class Chip:
    """One condition of a filter, as text for people. `without` is the same filter without this condition."""

    label: str
    value: str
    without: JobFilter


def checked(wanted: JobFilter, viewer: Viewer) -> JobFilter:
    """Returns the filter `wanted`. Raises `Refused` 403 if it searches by an argument and the viewer may not see
    arguments."""
    if wanted.argument is not None and not viewer.sees_args:
        # Searching by guesses would reveal the values.
        raise Refused(
            403,
            "Arguments are not shown",
            "The setting DASHBOARD_ARGS hides arguments from you, so you cannot search by them.",
        )
    return wanted


def meant(pairs: Iterable[tuple[str, str]], viewer: Viewer) -> JobFilter:
    """Returns the filter of an action on many jobs. The filter's conditions are among the parameters of the action's page or
    form.

    Raises `InvalidOption` for an empty value, which would widen the action to all jobs, and `Refused` as `checked` does.
    """
    return checked(JobFilter.from_query([pair for pair in pairs if is_condition(pair[0])], strict=True), viewer)


def address(path: str, wanted: JobFilter, **more: str | None) -> str:
    """Returns `path` with a query string made of the filter and of those values of `more` that are not None."""
    pairs = wanted.to_query() + [(name, value) for name, value in more.items() if value is not None]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def shortened(pairs: Iterable[tuple[str, str]], wanted: JobFilter, *, cursor: str | None) -> str | None:
    """Returns the address of a list of jobs without the empty fields that a form sends. Returns None if the request already
    has that address.

    A redirect to that address leads to no further redirect, since reading its filter and writing it again gives the same
    address. An argument's value may be empty, and stays in the address.
    """
    kept = wanted.to_query() + ([] if cursor is None else [("cursor", cursor)])
    return None if kept == list(pairs) else address("/jobs", wanted, cursor=cursor)


def chips(wanted: JobFilter, viewer: Viewer, *, states: bool = True) -> list[Chip]:
    """Returns the filter as chips, one for each condition.

    `states` says whether the states get a chip; a page that has a tab for each state needs none.
    """
    found: list[Chip] = []
    for word in WORDS:
        value = getattr(wanted, word.field)
        if value is None or (word.many and not value) or (word.field == "states" and not states):
            continue
        label, text = word.label, _in_words(word, value)
        if word.shape == "argument":
            label, text = f"{word.label}.{value[0]}", value[1] if viewer.sees_args else "(not shown)"
        found.append(Chip(label, text, replace(wanted, **{word.field: getattr(_ALL, word.field)})))
    return found


_ALL = JobFilter()


def _in_words(word: Word, value: Any) -> str:
    match word.shape:
        case "state":
            return ", ".join(sorted(state.value for state in value))
        case "id" if word.many and len(value) > 1:
            return f"{len(value):,} jobs"
        case "id":
            return short_id(value[0] if word.many else value)
        case "moment":
            return stamp(value)
        case "boolean":
            return "yes" if value else "no"
    return str(value)


def kept_filter(kept: Mapping[str, Any]) -> JobFilter:
    """Returns the stored filter of a bulk action; an empty filter if this release cannot read it."""
    from carafe import InvalidOption

    try:
        return JobFilter.from_json(kept)
    except InvalidOption:
        return JobFilter()


def total(counts: Iterable[Count]) -> Count:
    """Returns the sum of counts. The sum is marked as estimated if any of the counts is estimated."""
    listed = list(counts)
    return Count(sum(one.number for one in listed), any(one.estimated for one in listed))
