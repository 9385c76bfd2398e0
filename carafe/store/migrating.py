"""Runs the library's migrations, and those of the application's packages that the setting MIGRATIONS names."""

from collections.abc import Callable

from carafe.settings.settings import Settings


def migrate(settings: Settings, *, tell: Callable[[str], None] | None = None) -> list[str]:
    """Upgrade the library's schema and the application's. Returns a text for each step that was done. The function `tell` is
    called with a text that says what the migration waits for.

    Raises `ModuleNotUsable` if a package in MIGRATIONS cannot be found, `Unavailable`, `MigrationBlocked` and
    `MigrationFailed`.
    """
    import asyncio
    from importlib.util import find_spec

    from carafe.jobs.modules import ModuleNotUsable
    from carafe.store.database import migrate as upgrade

    for package in settings.migrations:
        try:
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        except Exception as error:
            raise ModuleNotUsable("MIGRATIONS", package, error) from error
    assert settings.database_url is not None
    return asyncio.run(upgrade(settings.database_url.get_secret_value(), settings.migrations, tell=tell))
