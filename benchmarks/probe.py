"""What a benchmark job does: it says that it started (and, for waits, that it ended), cheaply and without a server.

Every worker process writes to a memory-mapped file of its own in the folder PROBE_DIR; the harness adds the files up.
All systems' handlers call the same functions, so that whatever the probe costs (well under a microsecond) all pay it.

Standard library only: this module is imported inside every peer's environment. Times are `time.time()`, because the
databases' own times, with which they are compared, are wall-clock times of the same machine.
"""

import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

TRACKED = 4096
"""Jobs numbered 0 to TRACKED - 1 have their own start time kept; others (-1 in a drain) are only counted."""

_STARTED, _FIRST, _LAST, _ENDED, _LAST_END, _TIMES = 0, 1, 2, 3, 4, 8
_SIZE = 8 * (_TIMES + TRACKED)

_lock = threading.Lock()
_row: "memoryview[float] | None" = None


def _open() -> "memoryview[float]":
    global _row
    path = Path(os.environ["PROBE_DIR"], str(os.getpid()))
    with path.open("w+b") as file:
        file.truncate(_SIZE)
        _row = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("d")
    return _row


def _forget() -> None:
    """A forked child writes to a file of its own."""
    global _row, _lock
    _row, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def started(number: int = -1) -> None:
    """Say that job `number` starts now."""
    now = time.time()
    with _lock:
        row = _row or _open()
        row[_STARTED] += 1
        if not row[_FIRST]:
            row[_FIRST] = now
        row[_LAST] = now
        if 0 <= number < TRACKED:
            row[_TIMES + number] = now


def ended() -> None:
    """Say that a waiting job ends now."""
    now = time.time()
    with _lock:
        row = _row or _open()
        row[_ENDED] += 1
        row[_LAST_END] = now


def work(seconds: float) -> None:
    """Keep a processor busy for this long, as the thread's own processor time has it."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1_000))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the worker processes have said so far. Times are seconds since the epoch, 0.0 when there is none yet."""

    started: int = 0
    first_start: float = 0.0
    last_start: float = 0.0
    ended: int = 0
    last_end: float = 0.0
    starts: dict[int, float] = field(default_factory=dict)


def read(folder: Path, *, starts: bool = False) -> Reading:
    """Add up what every worker process wrote into `folder`; `starts` adds the numbered jobs' own start times."""
    total, ended_total = 0, 0
    first, last, last_end = 0.0, 0.0, 0.0
    times: dict[int, float] = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            raw = file.read(_SIZE if starts else 8 * _TIMES)
        if len(raw) < 8 * _TIMES:
            continue  # just being made
        row = struct.unpack_from("5d", raw)
        total += int(row[_STARTED])
        ended_total += int(row[_ENDED])
        if row[_FIRST]:
            first = min(first or row[_FIRST], row[_FIRST])
        last = max(last, row[_LAST])
        last_end = max(last_end, row[_LAST_END])
        if starts:
            for number, at in enumerate(struct.unpack_from(f"{TRACKED}d", raw, 8 * _TIMES)):
                if at:
                    times[number] = at
    return Reading(total, first, last, ended_total, last_end, times)
