"""What the kernel says of the memory of the container that this process runs in: its limit, and whom it has killed.

Reads one small file a question, of cgroup v2 or v1. Outside a container that is the whole machine's, or nothing is known.
"""

import os
from collections.abc import Sequence
from pathlib import Path

PLACES: Sequence[tuple[Path, Path]] = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.events")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.oom_control")),
)
"""The files of the limit and of the counter ``oom_kill``: version 2, then version 1."""

UNLIMITED = 1 << 50
"""From so many bytes on a limit is none: version 1 says so by a huge number."""


def memory_limit() -> int | None:
    """The container's memory limit in bytes; None without one."""
    for limit, _ in PLACES:
        text = _read(limit).strip()
        if text.isdigit() and 0 < int(text) < UNLIMITED:
            return int(text)
    return None


def oom_kills() -> int | None:
    """How many of the container's processes the kernel has killed for lack of memory so far; None when it does not say."""
    for _, events in PLACES:
        for line in _read(events).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
    return None


def memory_left() -> int | None:
    """What the container's limit leaves beside this process, in bytes; None without a limit."""
    limit = memory_limit()
    if limit is None:
        return None
    return limit - int(_read(Path("/proc/self/statm")).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
