"""The versions of Postgres on which these tests run: the embedded one, and PostgreSQL 15, the oldest that Carafe supports,
if the machine has it (Debian can have several versions installed). If not, the tests on PostgreSQL 15 are skipped."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from carafe.client.driving import in_thread
from carafe.dev.embedded import EmbeddedPostgres
from carafe.store.database import plain_dsn
from carafe.testing.databases import Databases

OLDEST = Path("/usr/lib/postgresql/15/bin")
"""Where Debian and Ubuntu install it."""


@contextmanager
def databases_on_15(folder: Path) -> Iterator[Databases]:
    """Databases on a server of PostgreSQL 15, which is ended afterwards."""
    server = EmbeddedPostgres(folder, durable=False, binaries=OLDEST)
    server.start()
    in_thread(lambda: _allow_prepared_transactions(server.url))
    server.stop()
    server.start()
    databases = Databases(server.url)
    try:
        yield databases
    finally:
        databases.close()
        server.stop()


async def _allow_prepared_transactions(url: str) -> None:
    connection = await asyncpg.connect(plain_dsn(url))
    try:
        await connection.execute("alter system set max_prepared_transactions = 5")
    finally:
        await connection.close()
