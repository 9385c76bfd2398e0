"""A migration that needs a lock of another session: it waits briefly, several times, says who holds the lock, and ends with
a clear error."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest

from carafe.store.database import MIGRATION_LOCK, MigrationBlocked, migrate


async def test_a_lock_on_a_table_is_named_and_given_up(carafe_database_url: str) -> None:
    url = carafe_database_url
    said: list[str] = []
    holder = await asyncpg.connect(url, server_settings={"application_name": "nightly dump"})
    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("lock table carafe.alembic_version in access exclusive mode")
        with pytest.raises(MigrationBlocked, match=r"carafe\.migrations got no lock within 3 s") as raised:
            await migrate(url, limit=3, tell=said.append)
        for words in (str(raised.value), *said):
            assert f"pid {holder.get_server_pid()} (nightly dump, idle in transaction" in words
            assert "lock table carafe.alembic_version" in words
        assert said

        # One that goes on waiting does it in its turn, as soon as the other has ended.
        waits = asyncio.Event()
        waiting = asyncio.create_task(migrate(url, tell=lambda words: waits.set()))
        await waits.wait()
        await transaction.rollback()
        assert await waiting == []
    finally:
        await holder.close()


async def test_the_audit_s_old_spelling_is_renamed(carafe_database_url: str) -> None:
    connection = await asyncpg.connect(carafe_database_url)
    try:
        await connection.execute("""
            alter table carafe.bulk_actions add constraint bulk_actions_action check (action in ('retry', 'run_now'));
            insert into carafe.audit (id, actor, via, action, target)
            values (gen_random_uuid(), 'ana', 'cli', 'run' || ' now', 'old'),
                (gen_random_uuid(), 'ana', 'cli', 'cancel', 'old');
            update carafe.alembic_version set version_num = '0005';
            alter table carafe.workers drop column versions;
            alter table carafe.gauges drop column held;
            drop index carafe.jobs_held;
            drop table carafe.paused_kinds, carafe.stacks
        """)
        assert await migrate(carafe_database_url) != []
        rows = await connection.fetch("select action from carafe.audit where target = 'old' order by action")
        assert [row["action"] for row in rows] == ["cancel", "run_now"]
    finally:
        await connection.close()


async def test_another_migration_is_waited_for_and_named(carafe_database_url: str) -> None:
    said: list[str] = []
    holder = await asyncpg.connect(carafe_database_url, server_settings={"application_name": "the other"})
    try:
        await holder.execute("select pg_advisory_lock($1)", MIGRATION_LOCK)
        with pytest.raises(MigrationBlocked, match=r"another migration did not end within 0.5 s; held by pid .*the other"):
            await migrate(carafe_database_url, limit=0.5, tell=said.append)
        assert len(said) == 1
    finally:
        await holder.close()
    assert await migrate(carafe_database_url) == []


@pytest.mark.process
def test_the_command_needs_no_redis(carafe_database_url: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "API_TOKENS")}
    done = subprocess.run(
        [sys.executable, "-m", "carafe", "migrate"],
        env=kept | {"ENVIRONMENT": "production", "DATABASE_URL": carafe_database_url, "MIGRATIONS": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "nothing to apply: the schema is current"), done.stderr
