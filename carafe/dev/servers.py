"""The servers of `carafe dev`: embedded ones for the URLs that are not set, with everything else or alone
(`carafe dev --servers`).

Guarantees: while they run, other commands on the same DATA_DIR find them. Their ports and passwords stay the same from one
start to the next.
Must never: run in production.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

from carafe import __version__
from carafe.dev import folder
from carafe.dev.stopping import Stopping
from carafe.settings.local_servers import Announcement, Servers, announced, with_urls
from carafe.settings.settings import Settings, SettingsError


def require_development(settings: Settings) -> None:
    """Raises SettingsError in production."""
    if settings.environment == "production":
        raise SettingsError(["ENVIRONMENT: `carafe dev` is for development; production runs `carafe serve` and workers"])


@contextlib.contextmanager
def servers_where_unset(
    settings: Settings, *, alone: bool = False, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Settings]:
    """Yields the settings with both server URLs set. If a URL was missing, it is that of a `carafe dev --servers` that runs
    on DATA_DIR or, if there is none, an embedded server runs during the block.

    `alone`: this process is `carafe dev --servers` itself. `meanwhile` is called while the servers start.

    Raises SettingsError when DATA_DIR cannot be used, and EmbeddedServerError when a server cannot be started.
    """
    missing = [name for name in ("database_url", "redis_url") if getattr(settings, name) is None]
    if not missing:
        yield settings
        return
    lent = None if alone else announced(settings.data_dir)
    if lent is not None and lent.alone:
        yield with_urls(settings, **{name: getattr(lent, name) for name in missing})
        return
    folder.make(settings.data_dir)
    from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey

    servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {}
    if "database_url" in missing:
        servers["database_url"] = EmbeddedPostgres(settings.data_dir / "postgres")
    if "redis_url" in missing:
        servers["redis_url"] = EmbeddedValkey(settings.data_dir / "valkey")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        # Started at the same time; Valkey, the last one here, stops first.
        starts = [threads.submit(server.start) for server in servers.values()]
        for server in servers.values():
            stack.callback(server.stop)
        meanwhile()
        for start in starts:
            start.result()
        settings = with_urls(settings, **{name: server.url for name, server in servers.items()})
        assert settings.database_url is not None
        assert settings.redis_url is not None
        announcement = Announcement(
            settings.data_dir,
            Servers(settings.database_url.get_secret_value(), settings.redis_url.get_secret_value(), alone),
        )
        stack.callback(announcement.withdraw)
        yield settings


def _of_django(url: str) -> Iterator[str]:
    """The lines that a Django project's settings need for the database at this URL."""
    parts = urlsplit(url)
    given = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "NAME": parts.path.strip("/"),
        "USER": parts.username,
        "PASSWORD": unquote(parts.password or ""),
    }
    yield 'DATABASES = {"default": {'
    yield from (f"    {json.dumps(name)}: {json.dumps(value)}," for name, value in given.items())
    yield "}}"


def run_servers(settings: Settings) -> int:
    """Runs the embedded servers alone until Ctrl-C or SIGTERM, and prints their URLs with their passwords; in the folder of
    a Django project also its ``DATABASES``. Returns the exit code.

    Raises SettingsError in production, when both URLs are set and when DATA_DIR cannot be used, and EmbeddedServerError when
    a server cannot be started.
    """
    require_development(settings)
    if settings.database_url is not None and settings.redis_url is not None:
        raise SettingsError(["DATABASE_URL and REDIS_URL are set: there is no server to start; leave one unset"])
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    with Stopping() as stopping, servers_where_unset(settings, alone=True) as served:
        assert served.database_url is not None
        assert served.redis_url is not None
        lines = [
            f"DATABASE_URL={served.database_url.get_secret_value()}",
            f"REDIS_URL={served.redis_url.get_secret_value()}",
        ]
        if Path("manage.py").is_file():
            lines += ["", *_of_django(served.database_url.get_secret_value())]
        listed = "\n".join(f"    {line}".rstrip() for line in lines)
        print(f"\n  carafe {__version__}, servers for development\n\n{listed}\n", flush=True)  # noqa: T201
        print("  `carafe` finds them here without these URLs. Ctrl-C stops them.\n", flush=True)  # noqa: T201
        if not stopping.asked():
            stopping.wait()
    return 0
