"""`carafe doctor` finds what is wrong, says what to do, and hides no finding behind another."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
import redis

from carafe.embedded import start_embedded
from tests.cli.conftest import Command

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
    assert "synchronous_commit is off" in broken(found, "postgres")
    assert any(level == "warning" and "append-only file is off" in text for level, text, _ in found["redis"])
    assert found["schema"] == [("ok", "current", "")]
    assert found["settings"][0][0] == "ok"
    assert not broken(found, "handlers")
    assert "only its clock decides" in found["clock"][0][1]


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


def test_a_hook_that_only_workers_would_know_is_broken(carafe: Command, here: Path) -> None:
    (here / "hidden_hook.py").write_text(
        "from carafe.jobs import State, hook\n"
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
    assert "findings must be mended" in answer.err
