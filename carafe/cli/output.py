"""Prints the answers of commands: JSON for scripts, plain tables for people. Tables have no colours or boxes, so that they
can be piped and pasted."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from carafe.jobs.stored_json import written
from carafe.plain_text import one_line, visible


def show_json(value: Any) -> None:
    """Prints `value` (dataclasses, UUIDs and datetimes included) as indented JSON."""
    print(visible(written(value, indent=True).decode()))


LONGEST_NAME = 60
"""The number of characters of a kind or target that a table shows; the database allows 200."""


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in aligned columns. Kinds and targets are shortened. On a terminal, lines are cut to its width; elsewhere
    they are printed whole."""
    names = {index for index, heading in enumerate(headings) if heading in ("KIND", "TARGET")}
    cells = ([shortened(cell) if index in names else clean(cell) for index, cell in enumerate(row)] for row in rows)
    lines = [list(headings), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(text if limit is None or len(text) <= limit else text[: limit - 1] + "…")


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Prints a line ``name  value`` for each field that has a value."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        if value:
            print(f"{name.ljust(width)}  {clean(value)}")


def shortened(name: str) -> str:
    """Returns a kind or target on one line, with at most `LONGEST_NAME` characters."""
    name = clean(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def clean(text: str) -> str:
    """Returns `text` on one line, without characters that would control the terminal."""
    return one_line(text.replace("\n", "⏎"))


def clean_lines(text: str) -> str:
    """Returns `text` with its lines kept, each without characters that would control the terminal."""
    return "\n".join(clean(line) for line in text.splitlines())


def moment(value: datetime | None) -> str:
    """Returns a time as text for people, to the second: the local time and, where it is another, UTC. Empty for None."""
    if value is None:
        return ""
    utc = value.astimezone(UTC)
    try:
        local = value.astimezone()
    except (OverflowError, ValueError, OSError):  # a time that the system cannot convert, such as one in the year 9999
        local = utc
    if not local.utcoffset():
        return f"{utc:%Y-%m-%d %H:%M:%SZ}"
    if local.date() == utc.date():
        return f"{local:%Y-%m-%d %H:%M:%S} ({utc:%H:%M:%SZ})"
    return f"{local:%Y-%m-%d %H:%M:%S} ({utc:%Y-%m-%d %H:%M:%SZ})"
