"""Carafe's own schema in a database of Django's. It is not made of Django's models, and has migrations of its own."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS

from carafe.client.driving import in_thread
from carafe.django.configuration import database_alias, url_of
from carafe.store.database import migrate


def migrate_after_django(using: str = DEFAULT_DB_ALIAS, verbosity: int = 1, **options: Any) -> None:
    """Upgrade Carafe's schema after ``manage.py migrate``, and so in each test database too. Raises like
    `carafe.store.database.migrate`."""
    # Django sends the same signal after `flush`, which leaves every schema as it is.
    if using != database_alias() or "plan" not in options:
        return
    done = in_thread(lambda: migrate(url_of(using)))
    if verbosity >= 1 and done:
        print(f"  Applied Carafe's migrations: {len(done)}", file=options.get("stdout"))
