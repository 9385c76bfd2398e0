"""What the kernel says about the memory of this process's container: its limit, and how many processes were killed for lack
of memory.

Each function reads small files of cgroup v2 or v1. Outside a container the numbers are those of the whole machine, or None.
"""

import os
from collections.abc import Sequence
from pathlib import Path

PLACES: Sequence[tuple[Path, Path]] = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.events")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.oom_control")),
)
"""Pairs of the file with the memory limit and the file with the counter ``oom_kill``: for cgroup v2, then for v1."""

UNLIMITED = 1 << 50
"""A limit of this many bytes or more means that memory is not limited: cgroup v1 writes a huge number in that case."""


def memory_limit() -> int | None:
    """Returns the container's memory limit in bytes; None when the container has no limit."""
    for limit, _ in PLACES:
        text = _read(limit).strip()
        if text.isdigit() and 0 < int(text) < UNLIMITED:
            return int(text)
    return None


def oom_kills() -> int | None:
    """Returns how many processes of the container the kernel has killed for lack of memory; None if that is unknown."""
    for _, events in PLACES:
        for line in _read(events).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return None


def memory_left() -> int | None:
    """Returns the container's memory limit less the resident memory of this process, in bytes; None without a limit."""
    limit = memory_limit()
    if limit is None:
        return None
    return limit - int(_read(Path("/proc/self/statm")).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
