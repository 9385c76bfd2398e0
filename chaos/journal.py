"""What handlers did, told outside the system under test: one line for each begin and end of an attempt, appended to a file.

A line is one ``write`` to a file opened with O_APPEND, so lines of many processes never mix, and what was written before a
SIGKILL stays. The file is named by CHAOS_JOURNAL; children of a worker inherit it.
"""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import orjson

from chaos.tasks import see_loop

_numbers = itertools.count(1)
_file: int | None = None


def _write(line: dict[str, Any]) -> None:
    global _file
    if _file is None:
        _file = os.open(os.environ["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(_file, orjson.dumps(line) + b"\n")


def begin(ctx: Any) -> dict[str, Any]:
    """Write that an attempt begins. Returns the mark that it puts into its result and its effects."""
    see_loop()
    mark = {"token": f"{os.getpid()}-{next(_numbers)}", "begin": time.time(), "fence": _fence(ctx)}
    _write({"event": "begin", "id": str(ctx.job_id), "kind": ctx.kind, "attempt": ctx.attempt, "pid": os.getpid(), **mark})
    return mark


def end(ctx: Any, mark: dict[str, Any]) -> dict[str, Any]:
    """Write that an attempt is about to return. Returns the mark."""
    _write({"event": "end", "id": str(ctx.job_id), "token": mark["token"], "at": time.time()})
    return mark


def _fence(ctx: Any) -> int | None:
    """The claim's fence, which the context does not show; unknown in a child process."""
    for context in (ctx, getattr(ctx, "_context", None)):
        row = getattr(context, "_row", None)
        if row is not None:
            return int(row["fence"])
    return None


def read(path: Path) -> list[dict[str, Any]]:
    """Every line of a journal."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line]
