"""`carafe doctor` finds what is wrong, says what to do, and hides no finding behind another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
import redis

from carafe.cli.doctor import REDIS_ADVICE, _redis_findings, _statements
from carafe.dev.embedded import EmbeddedValkey, free_port, start_embedded
from carafe.engine import statements as of_engine
from carafe.queue.redis_away import REFUSALS
from carafe.steward import statements as of_steward
from carafe.store import statements as of_store
from carafe.store.actions import STATEMENTS
from carafe.store.statement import Statement
from tests.cli.conftest import Command
from tests.waiting import eventually

Findings = dict[str, list[tuple[str, str, str]]]


def look(command: Command, code: int, **environment: str) -> Findings:
    answer = command("doctor", "--json", **environment)
    assert answer.code == code, answer.out + answer.err
    found: Findings = {}
    for finding in answer.json:
        found.setdefault(finding["subject"], []).append((finding["level"], finding["text"], finding["advice"] or ""))
    return found


WELL = {"WEB_APPLICATION": "tests.cli.web:application"}


def broken(found: Findings, subject: str) -> str:
    return "\n".join(f"{text} → {advice}" for level, text, advice in found.get(subject, []) if level == "broken")


def test_servers_that_are_not_durable_are_broken(carafe: Command) -> None:
    found = look(carafe, 1, **WELL)
    assert "fsync is off" in broken(found, "postgres")
    assert "full_page_writes is off" in broken(found, "postgres")
    assert any(level == "warning" and "append-only file is off" in text for level, text, _ in found["redis"])
    assert found["schema"] == [("ok", "current", "")]
    assert found["settings"][0][0] == "ok"
    assert not broken(found, "handlers")
    assert "only Postgres's clock decides" in found["clock"][0][1]


def test_everything_well_is_code_0(bare: Command, carafe: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    with start_embedded(tmp_path_factory.mktemp("durable")) as servers:
        urls = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url} | WELL
        before = look(carafe, 1, **urls)
        assert "carafe.migrations is at nothing" in broken(before, "schema")
        assert "run `carafe migrate`" in broken(before, "schema")
        assert carafe("migrate", **urls).code == 0
        after = look(carafe, 0, **urls)
    assert {level for findings in after.values() for level, _, _ in findings} <= {"ok", "note", "warning"}


def test_servers_that_do_not_answer_are_told_without_their_passwords(carafe: Command) -> None:
    away = {
        "DATABASE_URL": "postgresql://carafe:hunter2@127.0.0.1:1/none",
        "REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
    }
    found = look(carafe, 1, **away)
    assert "DATABASE_URL names its host" in broken(found, "postgres")
    assert "REDIS_URL names its host" in broken(found, "redis")
    shown = carafe("doctor", **away)
    assert shown.code == 1
    assert "hunter2" not in shown.out + shown.err


def test_overdue_jobs_that_no_steward_queues_are_broken(carafe: Command, carafe_database_url: str) -> None:
    on_it = WELL | {"DATABASE_URL": carafe_database_url}
    assert carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h", **on_it).code == 0
    assert "upkeep" not in look(carafe, 1, **on_it)
    with psycopg.connect(carafe_database_url, autocommit=True) as connection:
        connection.execute("update carafe.jobs set due_at = now() - interval '1 minute'")
        assert "no steward leads, and jobs are overdue" in broken(look(carafe, 1, **on_it), "upkeep")
        connection.execute(
            "insert into carafe.leases (name, holder, holder_name, incarnation, term, acquired_at, expires_at)"
            " values ('steward', gen_random_uuid(), 'web', '', 1, now(), now() + interval '1 minute')"
        )
    assert "upkeep" not in look(carafe, 1, **on_it)


def test_an_evicting_redis_is_broken(carafe: Command, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        connection.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = look(carafe, 1, **WELL)
        finally:
            connection.config_set("maxmemory-policy", "noeviction")
    assert "maxmemory-policy is allkeys-lru" in broken(found, "redis")


def test_a_schema_of_an_older_release_is_broken(carafe: Command, database_url: str) -> None:
    async def stand_at(version: str) -> str:
        connection = await asyncpg.connect(database_url)
        try:
            before = await connection.fetchval("select version_num from carafe.alembic_version")
            await connection.execute("update carafe.alembic_version set version_num = $1", version)
            return str(before)
        finally:
            await connection.close()

    newest = asyncio.run(stand_at("0000"))
    try:
        found = look(carafe, 1, **WELL)
    finally:
        asyncio.run(stand_at(newest))
    assert "carafe.migrations is at 0000" in broken(found, "schema")


async def test_the_statements_of_each_folder_are_tried(database_url: str) -> None:
    values = [value for module in (of_store, of_engine, of_steward) for value in vars(module).values()]
    count = len([value for value in values if isinstance(value, Statement)]) + len(STATEMENTS)
    connection = await asyncpg.connect(database_url)
    try:
        found, *_ = await _statements(connection)
    finally:
        await connection.close()
    assert found.text.startswith(f"all {count} fit the schema")


def test_modules_that_are_not_there_are_told_by_their_settings(carafe: Command) -> None:
    found = look(
        carafe,
        1,
        HANDLER_MODULES="nowhere.handlers",
        WEB_APPLICATION="nowhere.web:app",
        WORKER_APPLICATION="nowhere:app",
        MIGRATIONS="nowhere.migrations",
    )
    assert "HANDLER_MODULES: 'nowhere.handlers'" in broken(found, "handlers")
    assert "WEB_APPLICATION: 'nowhere.web:app'" in broken(found, "web")
    assert "WORKER_APPLICATION: 'nowhere'" in broken(found, "worker")
    assert "MIGRATIONS: 'nowhere.migrations'" in broken(found, "schema")
    assert "JOB_MODULES: 'nowhere.jobs'" in broken(look(carafe, 1, JOB_MODULES="nowhere.jobs"), "jobs")


def test_no_module_that_is_not_there_hides_another(carafe: Command) -> None:
    found = look(
        carafe, 1, JOB_MODULES="nowhere.jobs", HANDLER_MODULES="nowhere.handlers", WEB_APPLICATION="nowhere.web:app"
    )
    assert "JOB_MODULES: 'nowhere.jobs'" in broken(found, "jobs")
    assert "HANDLER_MODULES: 'nowhere.handlers'" in broken(found, "handlers")
    assert "WEB_APPLICATION: 'nowhere.web:app'" in broken(found, "web")


def test_a_hook_that_only_workers_would_know_is_broken(carafe: Command, here: Path) -> None:
    (here / "hidden_hook.py").write_text(
        "from carafe import State, hook\n"
        "from tests.cli.declared import Greet\n"
        "@hook(Greet, State.DEAD)\n"
        "async def on_death(session, change): ...\n"
    )
    found = look(carafe, 1, HANDLER_MODULES="tests.cli.handled,hidden_hook", **WELL)
    assert "move it beside the job's definition" in broken(found, "handlers")


def test_bad_settings_are_findings_too(bare: Command) -> None:
    found = look(bare, 1, PORT="http", LOG_LEVEL="LOUD")
    assert len(found["settings"]) == 2


def test_without_servers_the_rest_is_still_looked_at(bare: Command) -> None:
    found = look(bare, 1, JOB_MODULES="tests.cli.declared", HANDLER_MODULES="tests.cli.handled", **WELL)
    assert "not set, and no `carafe dev` is running" in broken(found, "servers")
    assert found["jobs"][0][0] == "ok"


def test_people_read_what_to_do_under_each_finding(carafe: Command) -> None:
    answer = carafe("doctor", **WELL)
    lines = answer.out.splitlines()
    at = next(number for number, line in enumerate(lines) if "fsync is off" in line)
    assert lines[at].split()[:2] == ["broken", "postgres"]
    assert lines[at + 1].strip() == "→ set fsync = on"
    assert "findings must be fixed" in answer.err


# Servers that answer and cannot be used: each with what to do about it.


async def look_aside(command: Command, code: int, **environment: str) -> Findings:
    return await asyncio.to_thread(look, command, code, **(WELL | environment))


@asynccontextmanager
async def session(url: str, name: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        yield connection
    finally:
        await connection.close()


async def test_who_locks_a_table_is_named(carafe: Command, database_url: str) -> None:
    async with session(database_url, "a forgotten psql") as other:
        await other.execute("begin; lock table carafe.jobs in access exclusive mode")
        found = await look_aside(carafe, 1)
    said = broken(found, "locks")
    assert f"pid {other.get_server_pid()} (a forgotten psql" in said
    assert "locks carafe.jobs: nothing can be written there" in said
    assert f"pg_terminate_backend({other.get_server_pid()})" in said
    assert "DATABASE_URL" not in broken(found, "postgres")
    assert found["statements"] == [("note", "not checked while the lock is held", "")]


async def test_who_waits_for_a_table_and_for_whom_is_named(carafe: Command, database_url: str) -> None:
    async with session(database_url, "a long report") as reader, session(database_url, "alters it") as waiter:
        await reader.execute("begin; select 1 from carafe.jobs limit 1")
        waiting = asyncio.ensure_future(waiter.execute("begin; lock table carafe.jobs in access exclusive mode"))
        try:
            await _waits_for_a_lock(reader, waiter)
            said = broken(await look_aside(carafe, 1), "locks")
        finally:
            await reader.execute("rollback")
            await asyncio.gather(waiting, return_exceptions=True)
    assert "(alters it" in said
    assert "(a long report" in said
    assert "holds up alters it" in said


async def test_who_holds_a_row_that_carafe_waits_for_is_named(carafe: Command, database_url: str) -> None:
    async with session(database_url, "a forgotten psql") as other, session(database_url, "carafe worker w1") as worker:
        await other.execute("begin; select * from carafe.alembic_version for update")
        waiting = asyncio.ensure_future(worker.execute("update carafe.alembic_version set version_num = version_num"))
        try:
            await _waits_for_a_lock(other, worker)
            found = await look_aside(carafe, 1)
        finally:
            await other.execute("rollback")
            await waiting
    [(level, text, advice)] = found["locks"]
    assert level == "warning"
    assert f"pid {other.get_server_pid()} (a forgotten psql" in text
    assert "holds up carafe worker w1" in text
    assert f"pg_terminate_backend({other.get_server_pid()})" in advice


async def _waits_for_a_lock(
    connection: "asyncpg.Connection[asyncpg.Record]", other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async def waits() -> bool:
        return bool(await connection.fetchval("select pg_blocking_pids($1) <> '{}'", other.get_server_pid()))

    await eventually(waits, within=20)


async def test_a_full_disk_is_no_matter_of_the_schema(carafe: Command, database_url: str) -> None:
    async with session(database_url, "owner") as owner:
        await owner.execute(
            "create function full_disk() returns trigger language plpgsql as $$"
            " begin raise exception using errcode = '53100', message = 'could not extend file'; end $$;"
            "create trigger full_disk before insert on carafe.jobs execute function full_disk()"
        )
        try:
            found = await look_aside(carafe, 1)
        finally:
            await owner.execute("drop function full_disk cascade")
    assert "DiskFullError: could not extend file → make room on the disk" in broken(found, "postgres")
    assert "statements" not in found
    assert "carafe migrate" not in str(found)


async def test_a_read_only_postgres_is_told_once_and_no_worker_called_dead(carafe: Command, database_url: str) -> None:
    async with session(database_url, "owner") as owner:
        name = await owner.fetchval("select current_database()")
        await owner.execute(f'alter database "{name}" set default_transaction_read_only = on')
        try:
            found = await look_aside(carafe, 1)
        finally:
            await owner.execute(f'alter database "{name}" reset default_transaction_read_only')
    assert broken(found, "postgres").count("nothing can be written") == 1
    [(_, text, _)] = found["workers"]
    assert text.startswith("no worker is visible: what is broken here may keep")


def test_a_key_that_is_not_ours_is_named_with_its_deletion(carafe: Command, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        for key, what in (("default", "list"), ("carafe:running", "sorted set")):
            connection.set(key, "hello")
            try:
                said = broken(look(carafe, 1, **WELL), "redis")
            finally:
                connection.delete(key)
            assert f"the key {key} is not a {what}" in said
            assert f"DEL {key}" in said
            assert "password" not in said


def test_a_full_redis_is_no_matter_of_its_url(carafe: Command, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        connection.config_set("maxmemory", 1)
        try:
            said = broken(look(carafe, 1, **WELL), "redis")
        finally:
            connection.config_set("maxmemory", 0)
    assert "it is full" in said
    assert "→ raise maxmemory" in said
    assert "REDIS_URL" not in said


def test_a_redis_that_is_nearly_full_is_warned_of() -> None:
    for used, warned in ((89, False), (91, True)):
        information = {"redis_version": "7.2.0", "maxmemory": 100, "used_memory": used}
        found = list(_redis_findings("redis://redis:6379/0", information))
        assert any(one.level == "warning" and f"{used}% of maxmemory is used" in one.text for one in found) is warned


def test_a_misspelled_setting_is_a_finding(carafe: Command) -> None:
    found = look(carafe, 1, JOB_RETRY_BSE="5", **WELL)
    told = ("warning", "JOB_RETRY_BSE is not a setting, and is ignored: did you mean JOB_RETRY_BASE?", "")
    assert told in found["settings"]


def test_a_misspelled_setting_is_a_finding_beside_faults_whose_advice_works(bare: Command) -> None:
    own = {"SETTINGS_CLASS": "tests.test_own_settings:ShopSettings", "STRIPE_KYE": "sk_live_1", "WORKER_CONCURENCY": "9"}
    found = bare("doctor", "--json", **own).json
    assert [(one["level"], one["text"].partition(":")[0]) for one in found] == [
        ("broken", "STRIPE_KEY"),
        ("warning", "WORKER_CONCURENCY is not a setting, and is ignored"),
    ]
    assert "`carafe config --markdown`" in found[0]["advice"]
    assert "| `STRIPE_KEY` |" in bare("config", "--markdown", **own).out


def test_a_url_without_the_password_says_so(carafe: Command, tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey", port=free_port(), persist=False)
    try:
        url = urlsplit(server.start().url)
        assert url.password
        said = broken(look(carafe, 1, REDIS_URL=f"redis://{url.hostname}:{url.port}/0", **WELL), "redis")
    finally:
        server.stop()
    assert "it wants a password, and REDIS_URL has none" in said
    assert "write the password into REDIS_URL" in said


def test_each_refusal_of_redis_has_its_advice() -> None:
    assert REDIS_ADVICE.keys() == REFUSALS.keys()
