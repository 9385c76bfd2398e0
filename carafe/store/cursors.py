"""Cursors: texts that say where a list, newest first, continues. A cursor consists of one position or several. Each position
is a time and an id, or only an id."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from carafe.jobs.errors import InvalidOption
from carafe.timestamps import from_micros, stored_micros, to_micros

_2000 = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where Postgres's timestamps begin."""


class Position(NamedTuple):
    """A position in a list: a live job's id, or an ended job's end time and id. Later positions are older."""

    at: datetime | None
    id: UUID

    @property
    def moment(self) -> datetime:
        """The time of the position: when the job ended or, for a live job, when its id was made."""
        # An id that was made elsewhere can name any time.
        return self.at or from_micros((self.id.int >> 80) * 1_000 - _2000)


def write_position(position: Position) -> str:
    """The text of a position, as one part of a cursor."""
    return f"{'' if position.at is None else to_micros(position.at)}|{position.id}"


def read_position(part: str, *, timed: bool) -> Position:
    """The position in `part`, a text that `write_position` has written. `timed`: whether the position must have a time.
    Raises ValueError or OverflowError when `part` is not such a text."""
    moment, bar, row_id = part.partition("|")
    if not bar or bool(moment) != timed:
        raise ValueError("is not a position")
    return Position(stored_micros(moment) if timed else None, UUID(row_id))


def write_cursor(parts: Sequence[str]) -> str:
    """The cursor that consists of these parts."""
    return urlsafe_b64encode(";".join(parts).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> list[str]:
    """The parts of a cursor. Raises ValueError when it is not a text that `write_cursor` wrote."""
    return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(";")


def no_cursor() -> InvalidOption:
    """The error for a cursor that this list did not issue."""
    return InvalidOption("cursor", "is not a cursor of this listing; use next_cursor of the previous page")
