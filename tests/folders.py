"""Where tests keep their files: in memory, where the system has a folder for that.

Servers make and drop hundreds of databases in a run, of some hundred files each. On a disk's file system that is a good part
of what a run costs, and nobody misses the data.
"""

import fcntl
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

MEMORY = Path("/dev/shm")

ENOUGH = 4 << 30
"""Bytes that must be free there, and of the machine's memory. A run takes less than half of it."""

ST_NOEXEC = 8


def use_memory(checkout: Path) -> Callable[[], None]:
    """Let the temporary folders of this process, and of those that it starts, be in memory, where that can be and nobody has
    said otherwise (TMPDIR). Returns what removes them; those of runs that were killed are removed here."""
    if "TMPDIR" in os.environ or not _has_room():
        return lambda: None
    root = _own(MEMORY, checkout)
    for lock in root.glob("run-*/lock"):
        if (left := _locked(lock)) is not None:
            shutil.rmtree(lock.parent, ignore_errors=True)
            left.close()
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    lived = _locked(folder / "lock")  # for as long as this process lives
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)

    def forget() -> None:
        del os.environ["TMPDIR"]
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)
        if lived is not None:
            lived.close()

    return forget


def _locked(path: Path) -> IO[str] | None:
    """The file, locked; None when another process has it."""
    try:
        file = open(path, "a")  # noqa: SIM115  held by the caller
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


WITHIN = "TESTS_WITHIN_A_RUN"
"""The variable of the environment that says to a run of pytest that a test of another run, or xdist, has started it."""


def root_of(checkout: Path) -> tuple[Path, Callable[[], None]]:
    """Returns the folder for pytest's own, which keeps the files of tests that failed, and what to call at the end.

    A run that a test starts has one of its own, which goes with it: pytest closes its folder to other accounts when it
    begins, and a Postgres that starts there under another one at that moment would fail.
    """
    folder = Path(tempfile.gettempdir())
    if WITHIN in os.environ:
        nested = Path(tempfile.mkdtemp(prefix="within-", dir=folder))
        nested.chmod(0o755)
        return nested, lambda: shutil.rmtree(nested, ignore_errors=True)
    os.environ[WITHIN] = "yes"
    root = folder.parent if folder.name.startswith("run-") else _own(folder, checkout)
    return root, _no_longer_within


def _no_longer_within() -> None:
    os.environ.pop(WITHIN, None)


def _own(where: Path, checkout: Path) -> Path:
    number = zlib.crc32(str(checkout).encode())
    root = where / f"carafe-tests-of-{os.geteuid()}-{number:08x}"
    root.mkdir(exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{root} was made by another account: delete it")
    return root


def _has_room() -> bool:
    try:
        there = os.statvfs(MEMORY)
        memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = int(memory["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return False
    # Programs are started from there, too: the second application is installed.
    usable = os.access(MEMORY, os.W_OK) and not there.f_flag & ST_NOEXEC
    return usable and min(there.f_bavail * there.f_frsize, available) > ENOUGH
