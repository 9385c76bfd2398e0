"""Which jobs a page is about: the filter in its address, as chips, and as addresses of other pages.

Must never: let somebody who may not see arguments search by their values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from carafe.jobs.filters import JobFilter
from carafe.jobs.records import Count
from carafe.web.dashboard.access import Viewer
from carafe.web.dashboard.formatting import short_id, stamp
from carafe.web.dashboard.refusals import Refused


@dataclass(frozen=True, slots=True)
class Chip:
    """One condition in words; `without` is the filter that is left when it is taken away."""

    label: str
    value: str
    without: JobFilter


def checked(wanted: JobFilter, viewer: Viewer) -> JobFilter:
    """The filter, if the viewer may use it. Raises `Refused`."""
    if wanted.argument is not None and not viewer.sees_args:
        # Trying out values would tell them.
        raise Refused(403, "Arguments are not shown", "You may not see arguments here, nor search by them (DASHBOARD_ARGS).")
    return wanted


def address(path: str, wanted: JobFilter, **more: str | None) -> str:
    """The path with the filter, and with `more` that is not None, as its query."""
    pairs = wanted.to_query() + [(name, value) for name, value in more.items() if value is not None]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def chips(wanted: JobFilter, viewer: Viewer, *, states: bool = True) -> list[Chip]:
    """What the filter says, one chip a condition. `states`: those too (a page with tabs shows them there)."""
    found: list[Chip] = []
    if states and wanted.states:
        listed = ", ".join(sorted(state.value for state in wanted.states))
        found.append(Chip("state", listed, replace(wanted, states=frozenset())))
    texts: list[tuple[str, str]] = [("kind", "kind"), ("error class", "error_class"), ("error group", "fingerprint")]
    for label, name in texts:
        if (value := getattr(wanted, name)) is not None:
            found.append(Chip(label, value, _without(wanted, name)))
    if wanted.text is not None:
        found.append(Chip("error says", wanted.text, _without(wanted, "text")))
    if wanted.argument is not None:
        name, value = wanted.argument
        found.append(Chip(f"args.{name}", value if viewer.sees_args else "(not shown)", _without(wanted, "argument")))
    if wanted.worker is not None:
        found.append(Chip("worker", short_id(wanted.worker), _without(wanted, "worker")))
    if wanted.since is not None:
        found.append(Chip("since", stamp(wanted.since), _without(wanted, "since")))
    if wanted.until is not None:
        found.append(Chip("until", stamp(wanted.until), _without(wanted, "until")))
    if wanted.resolved is not None:
        found.append(Chip("resolved", "yes" if wanted.resolved else "no", _without(wanted, "resolved")))
    if wanted.ids:
        selected = short_id(wanted.ids[0]) if len(wanted.ids) == 1 else f"{len(wanted.ids):,} jobs"
        found.append(Chip("selected", selected, replace(wanted, ids=())))
    return found


def _without(wanted: JobFilter, name: str) -> JobFilter:
    changed: dict[str, Any] = {name: None}
    return replace(wanted, **changed)


def kept_filter(kept: Mapping[str, Any]) -> JobFilter:
    """The filter that a bulk action keeps; an empty one where an older release wrote what this one cannot read."""
    from carafe.jobs import InvalidOption

    try:
        return JobFilter.from_json(kept)
    except InvalidOption:
        return JobFilter()


def total(counts: Iterable[Count]) -> Count:
    """The sum, estimated if any part is."""
    listed = list(counts)
    return Count(sum(one.number for one in listed), any(one.estimated for one in listed))
