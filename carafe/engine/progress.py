"""Checks the progress that a handler reports."""

from typing import Any

from carafe.jobs.errors import InvalidOption
from carafe.jobs.numbers import is_number
from carafe.texts import shown, text_of


def progress_values(fraction: float, note: str) -> dict[str, Any]:
    """Returns the values for progress.sql. Characters that Postgres cannot store are removed from the note. Raises
    `InvalidOption` when `fraction` is not from 0 to 1."""
    if not (is_number(fraction) and 0 <= fraction <= 1):
        raise InvalidOption("fraction", f"must be a number from 0 to 1 (got {shown(fraction)})")
    said = note.replace("\0", "") if type(note) is str else note
    return {"fraction": float(fraction), "note": text_of(said, 500) or None}
