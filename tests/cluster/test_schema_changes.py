"""No revision breaks the release that runs while it is applied. Needs no cluster: a real Postgres is enough."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from carafe.client.driving import in_thread
from carafe.store.database import migrate, plain_dsn
from carafe.store.revisions import Revisions
from carafe.testing.servers import Servers
from tests.cluster.schema_changes import Schema, breaks, schema

RETIRED: dict[str, tuple[str, ...]] = {
    # The code refuses an action that it does not know before it writes one: no release has rested on the table's check.
    "carafe.migrations 0006": (
        (
            "carafe.bulk_actions has lost a rule, which running processes may rest on: "
            "CHECK ((action = ANY (ARRAY['retry'::text, 'cancel'::text, 'discard'::text, 'run_now'::text])))"
        ),
    ),
}
"""What a revision may take away because no release that can still run uses it: "package revision" → `breaks`'s words."""

PACKAGES = ("carafe.migrations", "briefings.migrations", "tests.cluster.next_release")


@pytest.fixture
def empty_database(embedded_servers: Servers) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"schema_changes_{uuid4().hex}"
    server = plain_dsn(embedded_servers.postgres_url)

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    in_thread(lambda: execute(f'create database "{name}"'))
    yield server.rpartition("/")[0] + f"/{name}"
    in_thread(lambda: execute(f'drop database "{name}" with (force)'))


async def _steps(url: str) -> list[tuple[str, Schema, Schema]]:
    """Every revision, oldest first, with the schema before and after it."""
    steps = []
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    watching = await asyncpg.connect(url)
    try:
        async with engine.connect() as connection:
            await watching.execute("create schema if not exists carafe")
            for package in PACKAGES:
                config = Revisions(package)._config(None)
                revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
                for revision in reversed(revisions):
                    before = await schema(watching)

                    def upgrade(sync: Any, config: Config = config, revision: str = revision) -> None:
                        config.attributes["connection"] = sync
                        command.upgrade(config, revision)
                        sync.commit()

                    await connection.run_sync(upgrade)
                    steps.append((f"{package} {revision}", before, await schema(watching)))
    finally:
        await watching.close()
        await engine.dispose()
    return steps


def test_no_revision_breaks_the_release_before_it(empty_database: str) -> None:
    steps = in_thread(lambda: _steps(empty_database))
    assert len(steps) >= 6
    found = {name: set(breaks(before, after)) - set(RETIRED.get(name, ())) for name, before, after in steps}
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("drop table briefings", "public.briefings is gone"),
        ("alter table briefings drop column error", "public.briefings.error is gone"),
        ("alter table briefings rename column topic to subject", "public.briefings.topic is gone"),
        ("alter table carafe.jobs alter column attempt type bigint", "carafe.jobs.attempt was "),
        ("alter table briefings alter column job_id set not null", "public.briefings.job_id could be null"),
        ("alter table briefings alter column status drop default", "public.briefings.status had a default"),
        ("alter table briefings add column language text not null", "public.briefings.language is new, cannot be null"),
        ("alter table briefings add check (length(topic) < 5000)", "public.briefings has a new rule"),
        ("create unique index on briefings (topic)", "public.briefings has a new rule"),
        ("drop index briefings_request_key", "public.briefings has lost a rule"),
        ("drop function carafe.ensure_partitions(integer)", "function carafe.ensure_partitions(days integer) is gone"),
    ],
)
def test_a_migration_that_would_break_the_running_version_is_refused(empty_database: str, change: str, said: str) -> None:
    async def judge() -> list[str]:
        await migrate(empty_database, ["briefings.migrations"])
        connection = await asyncpg.connect(empty_database)
        try:
            before = await schema(connection)
            await connection.execute(change)
            return breaks(before, await schema(connection))
        finally:
            await connection.close()

    found = asyncio.run(judge())
    assert any(text.startswith(said) for text in found), found
