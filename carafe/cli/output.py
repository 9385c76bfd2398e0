"""How answers look: JSON for scripts, plain tables for people, without colours and boxes: they pipe and paste well."""

import math
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from carafe.jobs.stored_json import written
from carafe.plain_text import json_for_terminals, one_line


def show_json(value: Any) -> None:
    """Prints `value` (dataclasses, UUIDs and datetimes included) as indented JSON."""
    print(json_for_terminals(written(value, indent=True).decode()))


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints aligned columns. On a terminal the last one is cut to the width; elsewhere everything is whole."""
    lines = [list(headings), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(text if limit is None or len(text) <= limit else text[: limit - 1] + "…")


def show_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Prints `name  value` lines, leaving out those without a value."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        if value:
            print(f"{name.ljust(width)}  {clean(value)}")


def clean(text: str) -> str:
    """`text` on one line, without characters that would steer the terminal."""
    return one_line(text.replace("\n", "⏎"))


def clean_lines(text: str) -> str:
    """Like `clean`, line by line."""
    return "\n".join(clean(line) for line in text.splitlines())


def moment(value: datetime | None) -> str:
    """A time as people read it, in UTC to the second; empty for none."""
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float) -> str:
    """A duration in the two largest units that say something: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 4 d 1 h; – for none."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"
