"""Which jobs: the one filter of lists, counts and bulk actions, of dashboard, API and command line.

It travels as a query string (a page's address is its filter), as JSON (a bulk action keeps its own, frozen) and as SQL
conditions. Guarantees that all three mean the same, that every value is bound, never part of the text, and that the value of
a secret argument can not be found out by searching for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.jobs.states import ENDED, LIVE, State

Side = Literal["live", "ended"]
"""Which table: ``jobs``, or ``jobs_ended``."""

SIDES: tuple[Side, Side] = ("live", "ended")

LONGEST = 500
"""Characters of one value."""

SELECTED = 10_000
"""Job ids in one filter."""

_ARGUMENT = "args."


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Jobs that meet all of what is given; nothing given means all jobs.

    `states`: any of these (empty: all). `since` (inclusive) and `until` (exclusive) bound the end of ended jobs and the
    creation of live ones. `error_class` and `text` (part of the error, whatever its case) look at the end's error, or for a
    live job at that of its last failed attempt. `worker`: ran or runs there. `argument`: a top-level argument and its exact
    value as text, never that of a secret. `resolved` tells dead jobs apart, True excludes all others. `ids`: a selection.
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
    ids: tuple[UUID, ...] = ()

    @classmethod
    def from_query(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """The filter in a query string's pairs; names that are not its own, and empty values, are left alone.

        Names: state (repeated), kind, error_class, fingerprint, worker, since, until (ISO 8601; UTC where it names no zone),
        text, args.NAME (its value), resolved (true, false), id (repeated), and search: what a person typed into the search
        box (see `search`). Raises `InvalidOption`, naming the field.
        """
        given: dict[str, list[str]] = {}
        arguments: list[tuple[str, str]] = []
        for name, value in pairs:
            if name.startswith(_ARGUMENT):
                arguments.append(_argument(name[:LONGEST], f"{name}:{value}"))
            elif value.strip():
                given.setdefault(name, []).append(value.strip())
        if len(set(arguments)) > 1:
            raise InvalidOption("args", f"one argument can be searched for at a time (got {len(set(arguments))})")
        found = cls(
            states=frozenset(_state(value) for value in given.get("state", ())),
            kind=_text(given, "kind"),
            error_class=_text(given, "error_class"),
            fingerprint=_text(given, "fingerprint"),
            worker=_one(given, "worker", _uuid),
            since=_one(given, "since", _moment),
            until=_one(given, "until", _moment),
            text=_text(given, "text"),
            argument=arguments[0] if arguments else None,
            resolved=_one(given, "resolved", _boolean),
            ids=tuple(dict.fromkeys(_uuid("id", value) for value in given.get("id", ()))),
        )
        found._check()
        typed = _text(given, "search")
        return found if typed is None else found.search(typed)

    def search(self, typed: str) -> Self:
        """This filter and what was typed: a job id, ``args.NAME:VALUE``, or else text of an error. `InvalidOption`."""
        typed = _printable("search", typed.strip())
        if not typed:
            return self
        if typed.startswith(_ARGUMENT):
            return replace(self, argument=_argument("search", typed))
        try:
            return replace(self, ids=(UUID(typed),))
        except ValueError:
            return replace(self, text=typed)

    def to_query(self) -> list[tuple[str, str]]:
        """The pairs that `from_query` reads back."""
        pairs = [("state", state.value) for state in State if state in self.states]
        for name in ("kind", "error_class", "fingerprint", "text"):
            if (value := getattr(self, name)) is not None:
                pairs.append((name, value))
        if self.worker is not None:
            pairs.append(("worker", str(self.worker)))
        for name in ("since", "until"):
            if (moment := getattr(self, name)) is not None:
                pairs.append((name, _iso(moment)))
        if self.argument is not None:
            pairs.append((_ARGUMENT + self.argument[0], self.argument[1]))
        if self.resolved is not None:
            pairs.append(("resolved", "true" if self.resolved else "false"))
        return pairs + [("id", str(job_id)) for job_id in self.ids]

    def to_json(self) -> dict[str, Any]:
        """What is given, as JSON keeps it; `from_json` reads it back."""
        many = {"state": "states", "id": "ids"}
        kept: dict[str, Any] = {}
        for name, value in self.to_query():
            if name.startswith(_ARGUMENT):
                continue
            if name in many:
                kept.setdefault(many[name], []).append(value)
            else:
                kept[name] = value
        if self.argument is not None:
            kept["argument"] = list(self.argument)
        if self.resolved is not None:
            kept["resolved"] = self.resolved
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The filter that `to_json` wrote. Raises `InvalidOption`, for a name that is not one too."""
        pairs: list[tuple[str, str]] = []
        for name, value in kept.items():
            if name in ("states", "ids") and isinstance(value, list):
                pairs += [(name[:-1], str(item)) for item in value]
            elif name == "argument" and isinstance(value, list) and len(value) == 2:
                pairs.append((f"{_ARGUMENT}{value[0]}", str(value[1])))
            elif name == "resolved" and isinstance(value, bool):
                pairs.append((name, "true" if value else "false"))
            elif name in _NAMES and isinstance(value, str):
                pairs.append((name, value))
            elif value is not None:
                raise InvalidOption(name, f"is no field of a filter of jobs, or not of this type; there are {_LISTED}")
        return cls.from_query(pairs)

    def touches(self, side: Side) -> bool:
        """Whether any job of this table can meet it."""
        if side == "live":
            return (not self.states or bool(self.states & LIVE)) and self.fingerprint is None and not self.resolved
        dead_only = self.fingerprint is not None or self.resolved is True
        return not self.states or bool(self.states & ({State.DEAD} if dead_only else ENDED))

    def conditions(self, side: Side, bind: Callable[[Any], str]) -> list[str]:
        """SQL conditions on a table that the query calls ``j``, all of which must hold; `bind` keeps a value and gives its
        placeholder. Only for a side that the filter `touches`."""
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
            found.append(f"j.error_class = {bind(self.error_class)}::text")
        if self.text is not None:
            part = bind(_like(self.text))
            found.append(f"(j.error ilike {part}::text or j.error_class ilike {part}::text)")
        return found

    def _condition_of_attempts(self, bind: Callable[[Any], str]) -> str:
        # Only a job that has spent an attempt has failed; so those that never ran cost no look.
        found = ["a.job_id = j.id", "a.attempt = j.attempt"]
        if self.error_class is not None:
            found.append(f"a.error_class = {bind(self.error_class)}::text")
        if self.text is not None:
            part = bind(_like(self.text))
            found.append(f"(a.error ilike {part}::text or a.error_class ilike {part}::text)")
        # Behind the `offset` it stays a look at each job's own attempts: joined, it may read those of all jobs instead.
        return f"(j.attempt > 0 and exists (select from carafe.attempts a where {' and '.join(found)} offset 0))"

    def _condition_of_argument(self, bind: Callable[[Any], str], name: str, value: str) -> str:
        pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        key = bind(name)
        return (
            f"(jsonb_typeof(j.args) = 'object' and j.args ->> {key}::text = {bind(value)}::text"
            f" and jsonb_typeof(j.args -> {key}::text) not in ('object', 'array')"
            f" and not coalesce(j.secrets && {bind(['', pointer])}::text[], false))"
        )

    def _check(self) -> None:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise InvalidOption("until", "must be later than since")
        if len(self.ids) > SELECTED:
            raise InvalidOption("id", f"at most {SELECTED:,} jobs can be selected (got {len(self.ids):,}); filter instead")


_NAMES = ("kind", "error_class", "fingerprint", "worker", "since", "until", "text")
_LISTED = ", ".join(("states", *_NAMES, "argument", "resolved", "ids"))


def _one(given: Mapping[str, Sequence[str]], name: str, read: Callable[[str, str], Any]) -> Any:
    values = given.get(name, ())
    if len(values) > 1:
        raise InvalidOption(name, f"is given {len(values)} times; once, please")
    return read(name, values[0]) if values else None


def _text(given: Mapping[str, Sequence[str]], name: str) -> str | None:
    value: str | None = _one(given, name, _printable)
    return value


def _printable(name: str, value: str) -> str:
    if not value.isprintable():
        raise InvalidOption(name, "must be printable characters")
    if len(value) > LONGEST:
        raise InvalidOption(name, f"must be at most {LONGEST} characters (got {len(value)})")
    return value


def _state(value: str) -> State:
    try:
        return State(value)
    except ValueError:
        raise InvalidOption("state", f"must be one of {', '.join(State)} (got {value[:40]!r})") from None


def _uuid(name: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise InvalidOption(name, f"must be a UUID (got {value[:40]!r})") from None


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidOption(name, f"must be true or false (got {value[:40]!r})")
    return value == "true"


def _moment(name: str, value: str) -> datetime:
    try:
        # In a query string that was not encoded, the + of an offset has become a space.
        moment = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidOption(name, f"must be a time like 2026-01-31T14:02:00Z (got {value[:40]!r})") from None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _argument(name: str, value: str) -> tuple[str, str]:
    argument, colon, wanted = _printable(name, value).removeprefix(_ARGUMENT).partition(":")
    if not (argument.strip() and colon):
        raise InvalidOption(name, "an argument is searched for as args.NAME:VALUE, its exact value after the colon")
    return argument.strip(), wanted.strip()


def _like(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
