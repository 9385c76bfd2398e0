"""Reading any timestamp that Postgres holds. Python's datetime only has the years 1 to 9999; Postgres has the years -4713 to
294276 and infinity.

Guarantees: on a connection that `read_any` has prepared, no timestamp makes a query fail. A timestamp beyond Python's range
is read as the nearest time that Python has (`Beyond`). When that value is written back, as by the cursor of a list, Postgres
gets the original timestamp again.
Must never: be put on the connections of the hot path, since each value costs a call of a Python function.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OLDEST, _NEWEST = -211_813_488_000_000_000, 9_223_371_331_200_000_000
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Beyond(datetime):
    """The first or last time that Python has, in place of a stored time beyond it. `raw` is the stored time, in microseconds
    since the year 2000."""

    raw: int | None = None


def from_micros(micros: int) -> datetime:
    """The time this many microseconds after 2000-01-01 UTC, in UTC."""
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        nearest = _FIRST if micros < 0 else _LAST
        found = Beyond.combine(nearest.date(), nearest.timetz())
        found.raw = micros
        return found


def to_micros(moment: datetime) -> int:
    """The microseconds from 2000-01-01 UTC to `moment`, which has a time zone. Undoes `from_micros`, even for a `Beyond`."""
    raw = moment.raw if isinstance(moment, Beyond) else None
    return (moment - _EPOCH) // _MICROSECOND if raw is None else raw


def stored_micros(text: str) -> datetime:
    """The time in `text`, which comes from a cursor and is a number of microseconds since the year 2000. Raises ValueError
    if the text is not a number, or if Postgres cannot store the time."""
    micros = int(text) if len(text) <= 20 else 2**64
    if not _OLDEST <= micros < _NEWEST and micros not in (-(2**63), 2**63 - 1):
        raise ValueError("is not a time")
    return from_micros(micros)


INFINITY = from_micros(2**63 - 1)
"""Postgres's timestamp ``infinity``, which is later than every other."""


async def read_any(connection: "asyncpg.Connection[Any]") -> None:
    """Let this connection read and write any timestamp. Runs one short statement, and raises the driver's errors."""
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=lambda moment: (to_micros(_aware(moment)),),
        decoder=lambda stored: from_micros(stored[0]),
        format="tuple",
    )


def _aware(moment: datetime) -> datetime:
    # As asyncpg's own: a time without a zone is one of this machine's zone.
    return moment if moment.tzinfo is not None else moment.astimezone(UTC)
