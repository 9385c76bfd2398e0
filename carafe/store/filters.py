"""The filter of jobs that lists, counts and bulk actions use, in the dashboard, the HTTP API and the command line.

A filter can be written as a query string (a page's URL contains its filter), as JSON (a bulk action stores its filter) and
as SQL conditions. The table in carafe.store.filter_words has the names of its conditions.
Guarantees: all three forms mean the same; every value is bound, never part of the SQL text; the value of a secret argument
cannot be found out by searching for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from carafe.jobs.delays import zoned
from carafe.jobs.errors import InvalidFilter, InvalidOption
from carafe.jobs.identifiers import id_of
from carafe.jobs.options import checked_text
from carafe.jobs.records import INTERRUPTED
from carafe.jobs.states import ENDED, LIVE, State, states_of
from carafe.json_pointer import below
from carafe.store.filter_words import (
    ARGUMENT,
    BY_FIELD,
    BY_NAME,
    LONGEST,
    SELECTED,
    WORDS,
    Shape,
    argument_of,
    is_condition,
    printable,
)
from carafe.texts import shown

Side = Literal["live", "ended"]
"""The two tables of jobs: live jobs are in ``jobs``, ended ones in ``jobs_ended``."""

SIDES: tuple[Side, Side] = ("live", "ended")


class _NotGiven(tuple[UUID, ...]):
    """An empty tuple that differs from every other empty collection, because it is compared by identity."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "ANY_ID"


ANY_ID: tuple[UUID, ...] = _NotGiven()
"""The `ids` of a filter without a condition on the id."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Matches the jobs that meet every given condition. Without conditions, it matches all jobs.

    `states`: jobs in any of these states (empty: in any state). `since` (inclusive) and `until` (exclusive) limit the time
    at which an ended job ended, and at which a live job was created. `error_class` and `text` (a part of the error, in upper
    or lower case) are compared with the error that ended a job; for a live job, with the error of its last failed attempt.
    A class may be given without its module, or with the end of it: ``ConnectError`` also matches ``httpx.ConnectError``.
    `worker`: jobs that ran or run on this worker. `argument`: the name of a top-level argument and its exact value as text;
    a secret argument never matches. `resolved`: True matches only dead jobs that were discarded, False leaves those out.
    `ids`: only jobs with these ids. An empty collection of ids raises `InvalidOption`. Otherwise a script that has found no
    job would act on all jobs.
    """

    states: frozenset[State] = frozenset()
    kind: str | None = None
    error_class: str | None = None
    fingerprint: str | None = None
    worker: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    argument: tuple[str, str] | None = None
    resolved: bool | None = None
    ids: tuple[UUID, ...] = ANY_ID

    def __post_init__(self) -> None:
        if not self.ids and self.ids is not ANY_ID:
            raise InvalidOption("id", "must not be empty; leave ids out to match jobs with any id")
        # States may be given as text, in any collection. Raises `InvalidOption` for a state that does not exist.
        object.__setattr__(self, "states", states_of(self.states))

    @classmethod
    def from_query(cls, pairs: Iterable[tuple[str, str]], *, strict: bool = False) -> Self:
        """The filter that the (name, value) pairs of a query string describe.

        Names are those of `WORDS` (state, kind, …; a condition on an argument is called args.NAME), and ``search``, whose
        value is what a person typed into the search box (see `search`). Other names and empty values are ignored, and a time
        without a time zone is in UTC. With `strict`, all three are faults, and ``search`` is not accepted: a caller that
        acts on the jobs must use `strict`. Raises
        `InvalidOption`, which names the field, or `InvalidFilter` for several faults.
        """
        given: dict[str, list[str]] = {}
        faults: list[InvalidOption] = []
        typed: list[str] = []
        for name, value in pairs:
            if name.startswith(ARGUMENT):
                given.setdefault("args", []).append(f"{name[:LONGEST]}:{value}")
            elif name == "search" and not strict:
                typed += [value.strip()] if value.strip() else []
            elif not is_condition(name):
                if strict:
                    faults.append(InvalidOption(name[:LONGEST], f"is not a filter of jobs; the filters are {_NAMED}"))
            elif value.strip():
                given.setdefault(name, []).append(value.strip())
            elif strict:
                faults.append(InvalidOption(name, "must not be empty"))
        if len(typed) > 1:
            faults.append(InvalidOption("search", f"is given {len(typed)} times; give it once"))
        found = cls()
        for word in WORDS:
            try:
                found = found._with(word.field, given.get(word.name, ()), strict)
            except InvalidOption as error:
                faults.append(error)
        try:
            found.check()
            found = found.search(typed[0]) if typed and not faults else found
        except InvalidOption as error:
            faults.append(error)
        _raise(faults)
        return found

    def _with(self, field: str, values: Sequence[str], strict: bool) -> Self:
        """A copy of this filter, with the condition `field` set to the values that the given texts represent. Raises
        `InvalidOption`."""
        word = BY_FIELD[field]
        if not values:
            return self
        read: dict[Any, None] = dict.fromkeys(word.read(value, strict=strict) for value in values)
        if word.many:
            many: Any = frozenset(read) if field == "states" else tuple(read)
            changed: dict[str, Any] = {field: many}
            return replace(self, **changed)
        if word.shape == "argument" and len(read) > 1:
            raise InvalidOption("args", f"one argument can be searched for at a time (got {len(read)})")
        if word.shape != "argument" and len(values) > 1:
            raise InvalidOption(word.name, f"is given {len(values)} times; give it once")
        changed = {field: next(iter(read))}
        return replace(self, **changed)

    def search(self, typed: str) -> Self:
        """A copy of this filter with a condition for the text `typed` into a search box: a job id, ``args.NAME:VALUE``, or
        otherwise a part of an error. Raises `InvalidOption`."""
        typed = printable("search", typed.strip())
        if not typed:
            return self
        if typed.startswith(ARGUMENT):
            return replace(self, argument=argument_of("search", typed))
        try:
            return replace(self, ids=(UUID(typed),))
        except ValueError:
            return replace(self, text=typed)

    def to_query(self) -> list[tuple[str, str]]:
        """This filter as (name, value) pairs for a query string, which `from_query` reads."""
        pairs: list[tuple[str, str]] = []
        for word in WORDS:
            value = getattr(self, word.field)
            if word.field == "states":
                pairs += [(word.name, state.value) for state in State if state in value]
            elif word.many:
                pairs += [(word.name, word.write(one)) for one in value]
            elif word.shape == "argument" and value is not None:
                pairs.append((ARGUMENT + value[0], value[1]))
            elif value is not None:
                pairs.append((word.name, word.write(value)))
        return pairs

    def to_json(self) -> dict[str, Any]:
        """This filter's conditions as JSON-like data, by field name, which `from_json` reads."""
        kept: dict[str, Any] = {}
        for word in WORDS:
            value = getattr(self, word.field)
            if word.field == "states":
                value = [state.value for state in State if state in value]
            elif word.many:
                value = [word.write(one) for one in value]
            if value is None or value == []:
                continue
            plain = word.many or word.shape == "boolean"
            kept[word.field] = list(value) if word.shape == "argument" else value if plain else word.write(value)
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The filter that `to_json` wrote. A field that is None counts as not given. Raises `InvalidOption` for an unknown
        field or a bad value, or `InvalidFilter` for several faults; both name the fields."""
        faults: list[InvalidOption] = []
        found = cls()
        for name, value in kept.items():
            try:
                if value is not None:
                    found = found._with(name, _in_json(name, value), strict=True)
            except InvalidOption as error:
                faults.append(InvalidOption(name, error.message))
        try:
            found.check()
        except InvalidOption as error:
            faults.append(InvalidOption(BY_NAME[error.option].field, error.message))
        _raise(faults)
        return found

    def touches(self, side: Side) -> bool:
        """Whether the filter can match any job in the table `side`."""
        if side == "live":
            return (not self.states or bool(self.states & LIVE)) and self.fingerprint is None and not self.resolved
        dead_only = self.fingerprint is not None or self.resolved is True
        return not self.states or bool(self.states & ({State.DEAD} if dead_only else ENDED))

    def conditions(self, side: Side, bind: Callable[[Any], str]) -> list[str]:
        """The SQL conditions, all of which must hold, on a table that is called ``j`` in the query. The function `bind` is
        called with each value and returns its placeholder. Only call this method for a table that the filter `touches`."""
        states = self.states & (LIVE if side == "live" else ENDED)
        if side == "ended" and (self.fingerprint is not None or self.resolved is True):
            states = frozenset({State.DEAD})
        found = []
        if len(states) == 1:
            # Equality, on text that the planner sees: it then knows which partitions and partial indexes serve.
            found.append(f"j.state = '{next(iter(states)).value}'")
        elif states:
            found.append(f"j.state in ({', '.join(repr(state.value) for state in State if state in states)})")
        if self.ids:
            found.append(f"j.id = any({bind(list(self.ids))}::uuid[])")
        if self.kind is not None:
            found.append(f"j.kind = {bind(self.kind)}::text")
        if self.worker is not None:
            found.append(f"j.worker = {bind(self.worker)}::uuid")
        moment = "j.created_at" if side == "live" else "j.ended_at"
        if self.since is not None:
            found.append(f"{moment} >= {bind(self.since)}::timestamptz")
        if self.until is not None:
            found.append(f"{moment} < {bind(self.until)}::timestamptz")
        if side == "ended":
            found += self._conditions_of_ends(bind)
        elif self.error_class is not None or self.text is not None:
            found.append(self._condition_of_attempts(bind))
        if self.argument is not None:
            found.append(self._condition_of_argument(bind, *self.argument))
        return found

    def _conditions_of_ends(self, bind: Callable[[Any], str]) -> list[str]:
        found = []
        if self.fingerprint is not None:
            found.append(f"j.error_fingerprint = {bind(self.fingerprint)}::text")
        if self.resolved is not None:
            found.append(f"j.resolved_at is {'not ' if self.resolved else ''}null")
        if self.error_class is not None:
            found.append(_class_condition("j", self.error_class, bind))
        if self.text is not None:
            part = bind(_like(self.text))
            found.append(f"(j.error ilike {part}::text or j.error_class ilike {part}::text)")
        return found

    def _condition_of_attempts(self, bind: Callable[[Any], str]) -> str:
        # Only a job that has spent an attempt can have failed, so jobs that never ran cost no lookup.
        found = ["a.job_id = j.id", "a.attempt = j.attempt", f"a.cause <> '{INTERRUPTED}'"]
        if self.error_class is not None:
            found.append(_class_condition("a", self.error_class, bind))
        if self.text is not None:
            part = bind(_like(self.text))
            found.append(f"(a.error ilike {part}::text or a.error_class ilike {part}::text)")
        # The `offset` makes Postgres look up each job's own attempts. Without it, a join may read those of all jobs.
        return f"(j.attempt > 0 and exists (select from carafe.attempts a where {' and '.join(found)} offset 0))"

    def _condition_of_argument(self, bind: Callable[[Any], str], name: str, value: str) -> str:
        key = bind(name)
        return (
            f"(jsonb_typeof(j.args) = 'object' and j.args ->> {key}::text = {bind(value)}::text"
            f" and jsonb_typeof(j.args -> {key}::text) not in ('object', 'array')"
            f" and not coalesce(j.secrets && {bind(['', below('', name)])}::text[], false))"
        )

    def check(self) -> None:
        """Raises `InvalidOption` for a value of another type than its field's, for a text that is not printable or too long,
        for a time without a time zone, for a `since` that is not before `until`, and for too many ids."""
        for word in WORDS:
            value = getattr(self, word.field)
            if value is not None and word.field != "states":
                _CHECKS[word.shape](word.name, value)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidOption("until", "must be later than since")
        if len(self.ids) > SELECTED:
            raise InvalidOption("id", f"at most {SELECTED:,} jobs can be selected (got {len(self.ids):,}); filter instead")


def _check_argument(name: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidOption(name, f"must be the argument's name and its value as text (got {shown(value)})")
    for part in value:
        _check_text(name, part)


def _check_text(name: str, value: Any) -> None:
    printable(name, checked_text(value, name) or "")


def _check_ids(name: str, value: Any) -> None:
    for one in value if isinstance(value, tuple | list | set | frozenset) else [value]:
        id_of(one, name)


def _check_boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(name, f"must be True or False (got {shown(value)})")


_CHECKS: Mapping[Shape, Callable[[str, Any], Any]] = {
    "text": _check_text,
    "id": _check_ids,
    "moment": lambda name, value: zoned(value, name),
    "argument": _check_argument,
    "boolean": _check_boolean,
}
"""For each shape of a condition: the function that checks the type of a value. The shape "state" is missing, because states
are checked when the filter is made."""

_NAMED = ", ".join(ARGUMENT + "NAME" if word.name == "args" else word.name for word in WORDS)
_LISTED = ", ".join(word.field for word in WORDS)


def _in_json(name: str, value: Any) -> list[str]:
    """Returns the field `name` of a filter's JSON in the form of a query string: the texts of its values. Raises
    `InvalidOption`."""
    word = BY_FIELD.get(name)
    if word is not None:
        texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
        if word.many and texts and (value or name != "ids"):
            return list(value)
        if word.shape == "argument" and texts and len(value) == 2:
            return [f"{ARGUMENT}{value[0]}:{value[1]}"]
        if word.shape == "boolean" and isinstance(value, bool):
            return [word.write(value)]
        if not word.many and word.shape in ("text", "id", "moment") and isinstance(value, str):
            if value.strip():
                return [value.strip()]
            raise InvalidOption(name, "must not be empty")
    raise InvalidOption(name, f"is not a field of a filter of jobs, or not of this type; the fields are {_LISTED}")


def _raise(faults: Sequence[InvalidOption]) -> None:
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidFilter(faults)


def is_class(name: str, wanted: str) -> bool:
    """Whether `wanted`, a class in a filter, means the class of this whole name. A module may be left out, or its
    beginning."""
    return name == wanted or name.endswith(f".{wanted}")


def _class_condition(table: str, wanted: str, bind: Callable[[Any], str]) -> str:
    """`is_class` in SQL."""
    column = f"{table}.error_class"
    return f"({column} = {bind(wanted)}::text or {column} like {bind(f'%.{_escaped(wanted)}')}::text)"


def _like(text: str) -> str:
    return f"%{_escaped(text)}%"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
