"""DATA_DIR as `carafe dev` uses it: made before anything else, with one `carafe dev` at a time.

Two files in it are locked: `dev.lock` by the process that was started as `carafe dev`, `application.lock` by the child that
`--reload` starts. A killed parent leaves a child that still ends its jobs, on the ports of the settings. So the next
`carafe dev` asks for both locks, before it looks at any port.

Guarantees: a folder that cannot be used is an error about DATA_DIR. Locks end with their process, however that ends.
Must never: end a process.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from carafe.private import CLOSED
from carafe.settings.settings import SERVERS, Settings, SettingsError

DEV = "dev.lock"
APPLICATION = "application.lock"


class RunsAlready(Exception):
    """Another `carafe dev` runs on this folder. The text names its process, and says what to do."""


@contextlib.contextmanager
def one_at_a_time(settings: Settings, *, child: bool = False) -> Iterator[None]:
    """Keeps other `carafe dev` of this DATA_DIR away during the block. `child`: this process is the application of a
    `carafe dev --reload`.

    Raises RunsAlready, and SettingsError when DATA_DIR cannot be used. If the settings name both servers, nothing else is
    kept in DATA_DIR, and a folder that cannot be used is ignored.
    """
    folder = settings.data_dir
    try:
        make(folder)
    except SettingsError:
        if any(getattr(settings, name) is None for name in SERVERS):
            raise
        yield
        return
    with contextlib.ExitStack() as held:
        if child:
            held.enter_context(_locked(folder / APPLICATION))
        else:
            held.enter_context(_locked(folder / DEV))
            with _locked(folder / APPLICATION):  # nobody holds it; our own children take it from now on
                pass
        yield


def make(folder: Path) -> None:
    """Makes DATA_DIR if it does not exist. Raises SettingsError when it cannot be made, or no file can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=CLOSED)
        os.close(_opened(folder / DEV))
    except OSError as error:
        where = f"{folder.absolute()} ({error.strerror or error})"
        raise SettingsError([f"DATA_DIR: cannot make or write files in {where}; name a folder of your own"]) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with os.fdopen(_opened(path), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunsAlready(_who(path, file)) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _who(path: Path, file: IO[str]) -> str:
    pid = file.read().strip()  # empty for an instant after the lock was taken
    does = (
        "still runs or is ending its jobs"
        if path.name == DEV
        else "was killed, and its application is still ending its jobs"
    )
    todo = f"wait for the end of process {pid}, or end it (kill {pid})" if pid else "wait for its end, or end it"
    return f"a `carafe dev` of this folder (DATA_DIR {path.parent.absolute()}) {does}: {todo}"
