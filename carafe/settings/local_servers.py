"""How other commands find the embedded servers of a running `carafe dev`: by a file in its data folder.

Guarantees: the addresses are only returned while this `carafe dev` runs. If it was killed and could not remove them, they
are not returned either.
Must never: matter in production, where every address is a setting.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from carafe.named_files import open_named
from carafe.private import open_closed
from carafe.settings.application_folder import application_elsewhere
from carafe.settings.settings import SERVERS, Settings, SettingsError
from carafe.settings.types import SecretUrl

SERVERS_FILE = "servers.json"


class NoServers(SettingsError):
    """DATABASE_URL or REDIS_URL is not set, and there is no running `carafe dev` that has these servers."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The URLs of the embedded Postgres and Redis of a running `carafe dev`. `alone`: it runs nothing else
    (`carafe dev --servers`)."""

    database_url: str
    redis_url: str
    alone: bool = False


class Announcement:
    """Publishes the servers' addresses until `withdraw` is called or this process ends."""

    def __init__(self, data_dir: Path, servers: Servers) -> None:
        # `data_dir` exists by now: the servers keep their data in it. The lock tells readers that this process lives: it
        # ends with the process, however that ends.
        self._file: IO[str] | None = _opened(data_dir / SERVERS_FILE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), **asdict(servers)}, indent=2) + "\n")
        self._file.flush()

    def withdraw(self) -> None:
        """Remove the addresses from the file. Does nothing when they are already removed."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def _opened(path: Path) -> IO[str]:
    # The addresses hold passwords.
    file = open_closed(path, make=True)
    os.fchmod(file.fileno(), 0o600)
    return file


def announced(data_dir: Path) -> Servers | None:
    """The servers of the `carafe dev` that uses this data folder, or None if none is running there."""
    try:
        with open_named(data_dir / SERVERS_FILE) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                found = json.load(file)
                return Servers(found["database_url"], found["redis_url"], found.get("alone", False))
            return None  # nobody holds the lock: that `carafe dev` has ended
    except (OSError, ValueError, KeyError):
        return None


def with_servers(settings: Settings, needed: Sequence[str] = SERVERS) -> Settings:
    """Returns `settings` with the URLs that are `needed`. A URL that is unset, which is possible in development only,
    becomes that of the running `carafe dev`.

    Also puts such URLs into this process's environment, for an application that reads its settings itself.
    Raises NoServers when a URL is unset and no `carafe dev` is running.
    """
    missing = [name for name in needed if getattr(settings, name) is None]
    if not missing:
        return settings
    servers = announced(settings.data_dir)
    if servers is None:
        names = " and ".join(name.upper() for name in missing)
        fault = (
            f"{names}: not set, and no `carafe dev` is running on {settings.data_dir.absolute()}; start it, or set {names}"
        )
        raise NoServers([fault, *([elsewhere] if (elsewhere := application_elsewhere()) else [])])
    return with_urls(settings, **{name: getattr(servers, name) for name in missing})


def with_urls(settings: Settings, **urls: str) -> Settings:
    """A copy of `settings` with these URLs, which are also put into this process's environment."""
    os.environ.update({name.upper(): url for name, url in urls.items()})
    return settings.model_copy(update={name: SecretUrl(url) for name, url in urls.items()})
