"""How the other commands find the servers of a running `carafe dev`: by a file in its data folder.

Guarantees: an address is only given while that `carafe dev` lives; one that was killed leaves none behind.
Must never: matter in production, where every address is a setting.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from carafe.setting_types import SecretUrl
from carafe.settings import Settings, SettingsError

SERVERS_FILE = "servers.json"


class NoServers(SettingsError):
    """Neither DATABASE_URL and REDIS_URL are set nor does a `carafe dev` run that has servers of its own."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where a running `carafe dev` keeps its data."""

    database_url: str
    redis_url: str


class Announcement:
    """Says where the servers are for as long as this object, or this process, lives."""

    def __init__(self, data_dir: Path, servers: Servers) -> None:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Readers know by the lock that we live: it ends with the process, whatever ends that.
        self._file: IO[str] | None = _opened(data_dir / SERVERS_FILE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), **asdict(servers)}, indent=2) + "\n")
        self._file.flush()

    def withdraw(self) -> None:
        """From now on nobody finds them. Harmless when withdrawn."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _opened(path: Path) -> IO[str]:
    # The addresses hold passwords.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+")


def announced(data_dir: Path) -> Servers | None:
    """The servers of the `carafe dev` that runs on this data folder, or None."""
    try:
        with open(data_dir / SERVERS_FILE) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                found = json.load(file)
                return Servers(found["database_url"], found["redis_url"])
            return None  # nobody holds it: that `carafe dev` is gone
    except (OSError, ValueError, KeyError):
        return None


def with_servers(settings: Settings, needed: Sequence[str] = ("database_url", "redis_url")) -> Settings:
    """`settings` with DATABASE_URL and REDIS_URL, or with what is `needed` of them; one that is unset (in
    development) is the running `carafe dev`'s.

    Puts them into this process's environment too, for an application that reads its settings itself.
    Raises NoServers when there are none.
    """
    missing = [name for name in needed if getattr(settings, name) is None]
    if not missing:
        return settings
    servers = announced(settings.data_dir)
    if servers is None:
        names = " and ".join(name.upper() for name in missing)
        fault = (
            f"{names}: not set, and no `carafe dev` is running on {settings.data_dir.absolute()}; "
            f"start it (`make dev`), or set {names}"
        )
        raise NoServers([fault])
    return with_urls(settings, **{name: getattr(servers, name) for name in missing})


def with_urls(settings: Settings, **urls: str) -> Settings:
    """`settings` with these addresses, in this process's environment too."""
    os.environ.update({name.upper(): url for name, url in urls.items()})
    return settings.model_copy(update={name: SecretUrl(url) for name, url in urls.items()})
