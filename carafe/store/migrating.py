"""Runs the library's migrations, and those of the application's packages that the setting MIGRATIONS names; writes new
ones."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carafe.errors import CarafeError, Unavailable
from carafe.jobs.errors import InvalidOption
from carafe.settings.settings import Settings

if TYPE_CHECKING:
    from carafe.store.revisions import Revisions


def migrate(settings: Settings, *, tell: Callable[[str], None] | None = None) -> list[str]:
    """Upgrade the library's schema and the application's. Returns the revisions that were applied, as "package: revision".
    The function `tell` is called with a text that says what the migration waits for.

    Raises `ModuleNotUsable` if a package in MIGRATIONS cannot be found, `Unavailable`, `MigrationBlocked` and
    `MigrationFailed`.
    """
    from carafe.store.database import migrate as upgrade

    assert settings.database_url is not None
    return asyncio.run(upgrade(settings.database_url.get_secret_value(), settings.migrations, tell=tell))


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision that was written: its file, and whether it contains the difference between metadata and database."""

    file: Path
    derived: bool


def write_revision(
    message: str, packages: tuple[str, ...], url: Callable[[], str], *, package: str | None = None
) -> NewRevision:
    """Write a new revision into the package with this name, which may be left out if there is only one.

    If the package names its metadata (`target_metadata`), the revision contains what the database at `url()` lacks of it,
    otherwise it is empty, and `url` is not called. The message is one line of at most 200 characters. Raises `InvalidOption`
    if it is not, or if it is not clear which package is meant, `ModuleNotUsable`, `MigrationFailed` and `Unavailable`.
    """
    from carafe.store.revisions import Revisions

    _check(message)
    revisions = Revisions(_chosen(packages, package))
    if revisions.metadata() is not None and len(revisions.heads()) < 2:
        return NewRevision(asyncio.run(_derived(revisions, message, url())), derived=True)
    try:
        return NewRevision(revisions.write(message), derived=False)
    except CarafeError:
        raise
    except Exception as error:
        raise revisions.failed(error) from error


LONGEST_MESSAGE = 200
"""Characters of the message of a new revision."""


def _check(message: str) -> None:
    if not message.strip():
        raise InvalidOption("--new", "must say what the revision changes")
    if len(message) > LONGEST_MESSAGE:
        raise InvalidOption("--new", f"must have at most {LONGEST_MESSAGE} characters (got {len(message)})")
    if not message.isprintable():
        raise InvalidOption("--new", f"must be one line without control characters (got {message!r})")


def _chosen(packages: tuple[str, ...], package: str | None) -> str:
    if not packages:
        raise InvalidOption(
            "MIGRATIONS",
            'is empty: name your package with migrations, such as migrations = ["shop.migrations"] below '
            "[tool.carafe] in pyproject.toml",
        )
    if package is None and len(packages) > 1:
        raise InvalidOption("--package", f"must say which one of MIGRATIONS gets the revision: {', '.join(packages)}")
    if package is not None and package not in packages:
        raise InvalidOption("--package", f"{package!r} is not one of MIGRATIONS ({', '.join(packages)})")
    return package or packages[0]


async def _derived(revisions: "Revisions", message: str, url: str) -> Path:
    from asyncpg import PostgresError
    from sqlalchemy import NullPool
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    from carafe.postgres_url import NotWritable, UrlFault, connect
    from carafe.store.database import DISCONNECTED, lost

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(url, name="carafe migrate --new"), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            file: Path = await connection.run_sync(lambda sync: revisions.write(message, sync))
            return file
    except (CarafeError, PostgresError, UrlFault, NotWritable):
        raise
    except Exception as error:
        if lost(error) or (revisions.fault(error) is None and isinstance(error, DISCONNECTED)):
            raise Unavailable(error) from error
        if isinstance(error, DBAPIError):
            raise  # Postgres has refused, and says why
        raise revisions.failed(error) from error
    finally:
        await engine.dispose()
