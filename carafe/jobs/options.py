"""The options of a job, each declared only here: its type, bounds, default, column and texts.

An option is an entry in `ClassOptions` (a keyword of the job's class), in `EnqueueOptions` (a keyword of an enqueue, for
that job alone, which overrides the class's value), or in both. mypy checks callers by the entry's type. Everything else
follows from its `Option`: the rows that are stored, the columns in SQL statements (`carafe.store.columns`), the bodies of
the HTTP API, `carafe enqueue`, the dashboard's form, and what all of them show.

A new option needs an entry here, a column (a migration), and a statement that uses the column. To be read back, it also
needs a field in `JobRecord` and in the HTTP API's `JobModel`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict, get_type_hints

from carafe.jobs.delays import MAX_DELAY, checked_delay, checked_moment
from carafe.jobs.errors import InvalidOption
from carafe.jobs.numbers import is_whole, number_of_seconds
from carafe.jobs.outcomes import Seconds
from carafe.settings.job_defaults import MAX_RETRIES, MAX_TIMEOUT
from carafe.texts import is_storable, shown

MAX_KEY = 500
"""The maximum number of characters of a unique key or an idempotency key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Everything about an option except its name. `check(value, name)` returns the value to keep, or raises `InvalidOption`.

    `what` says how a value is read and shown. `least` and `most` are the bounds of a number, or of the length of a text.
    `column` is the column that stores ``kept(value)``, and `sql` is the column's type. `default` is the value if the option
    is set neither by the enqueue, nor by the job's class, nor by the field of `Limits` with the option's name. `label` is
    the option's name on pages, `help` a sentence for callers. `asked`: whether the dashboard's form has a field for it.
    """

    what: Literal["moment", "duration", "text", "integer"]
    label: str
    help: str
    check: Callable[[Any, str], Any]
    column: str
    sql: str
    least: float = 0
    most: float = 0
    default: Any = None
    asked: bool = False
    kept: Callable[[Any], Any] = lambda value: value


def checked_key(key: str, option: str) -> str:
    """Returns `key`. Raises `InvalidOption` if it is not a text, is empty, too long, or not printable."""
    if not isinstance(key, str):
        raise InvalidOption(option, f"must be a text (got {shown(key)}): convert an id with str(...)")
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidOption(option, f"must be 1 to {MAX_KEY} printable characters")
    return key


def checked_text(given: Any, option: str) -> str | None:
    """Returns `given`, a text or None. Raises `InvalidOption` if it is neither, or a text that Postgres cannot store."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise InvalidOption(option, f"must be a text (got {shown(given)})")
    if not is_storable(given):
        raise InvalidOption(option, "must be text (it holds a NUL character, or bytes that are not UTF-8)")
    return given


def _checked_timeout(value: Any, option: str) -> float:
    timeout = number_of_seconds(value)
    if math.isnan(timeout):
        raise InvalidOption(option, f"must be seconds: a number or a timedelta (got {shown(value)})")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise InvalidOption(option, f"must be above 0 and at most {MAX_TIMEOUT:.0f} seconds (got {timeout})")
    return timeout


def integer(*, least: int, most: int, **words: Any) -> Option:
    """An `Option` whose value is a whole number from `least` to `most`. The keyword arguments `words` set its other
    fields."""

    def check(value: Any, option: str) -> int:
        if not is_whole(value) or not least <= value <= most:
            raise InvalidOption(option, f"must be from {least} to {most} (got {shown(value)})")
        return int(value)

    return Option(what="integer", check=check, least=least, most=most, **words)


class ClassOptions(TypedDict, total=False):
    """Options that a job's class may set for all of its jobs: ``class Resize(Job, kind="image.resize", timeout=60)``."""

    timeout: Annotated[
        Seconds | None,
        Option(
            what="duration",
            label="timeout",
            help="How long an attempt may take.",
            check=_checked_timeout,
            most=MAX_TIMEOUT,
            column="timeout",
            sql="real",
        ),
    ]
    max_retries: Annotated[
        int | None,
        integer(
            least=0,
            most=MAX_RETRIES,
            label="retries",
            help="Attempts after the first.",
            column="max_attempts",
            sql="integer",
            kept=lambda retries: retries + 1,
        ),
    ]


class EnqueueOptions(TypedDict, total=False):
    """Options that one job may get when it is enqueued, by `Client.enqueue`, `NewJob`, the HTTP API or `carafe enqueue`."""

    run_at: Annotated[
        datetime | None,
        Option(
            what="moment",
            label="run at",
            help="Do not run before this time, up to ten years ahead.",
            check=checked_moment,
            column="run_at",
            sql="timestamptz",
            asked=True,
        ),
    ]
    delay: Annotated[
        Seconds | None,
        Option(
            what="duration",
            label="delay",
            help="Do not run before this much time has passed. Give run_at or delay, not both.",
            check=checked_delay,
            most=MAX_DELAY,
            column="delay",
            sql="double precision",
        ),
    ]
    unique_key: Annotated[
        str | None,
        Option(
            what="text",
            label="unique key",
            help="At most one live job holds a key. If a job holds it already, that job is returned instead of a new one.",
            check=checked_key,
            least=1,
            most=MAX_KEY,
            column="unique_key",
            sql="text",
            asked=True,
        ),
    ]


def _table(declared: type) -> Mapping[str, Option]:
    hints = get_type_hints(declared, include_extras=True)
    return MappingProxyType({name: hint.__metadata__[0] for name, hint in hints.items()})


CLASS_OPTIONS = _table(ClassOptions)
ENQUEUE_OPTIONS = _table(EnqueueOptions)

BECOMES_DUE_AT = frozenset({"run_at", "delay"})
"""Options without a column of their own. They say when a job becomes due, and the job's row keeps that time as `due_at`."""

STORED = MappingProxyType(
    {name: option for name, option in {**CLASS_OPTIONS, **ENQUEUE_OPTIONS}.items() if name not in BECOMES_DUE_AT}
)
"""The options for which a job's row has a separate column."""

OF_ONE_JOB = MappingProxyType({name: STORED[name] for name in ENQUEUE_OPTIONS if name in STORED})
"""The stored options that can differ between jobs of one class, so that every view of a job shows them. The option, its
column and its field of `JobRecord` have the same name."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The kind, version and options that a job's class declares. An option that the class does not set is None here; when a
    job is enqueued, `Limits.resolve` replaces it with the default (JOB_TIMEOUT, JOB_MAX_RETRIES)."""

    kind: str
    version: int
    timeout: float | None = None
    max_retries: int | None = None
