"""`config`, `token`, `version`, `migrate` and what every command does with bad settings."""

import io
import json
import sys
from pathlib import Path

import argon2
import pytest

import carafe as library
from carafe.settings.settings import Settings, hash_token, load_settings
from tests.cli.conftest import Answer, Command, application, process

PASSWORD = "hunter2-the-password"


def test_config_shows_every_setting_redacted_with_its_source(bare: Command, here: Path) -> None:
    (here / "env.local").write_text("WORKER_CONCURRENCY=7\n")
    url = f"postgresql://carafe:{PASSWORD}@db.example/carafe"
    answer = bare("config", "--json", DATABASE_URL=url)
    settings = {entry["name"]: (entry["value"], entry["source"]) for entry in answer.json}
    assert list(settings) == [name.upper() for name in Settings.model_fields]
    assert settings["DATABASE_URL"] == ("postgresql://carafe:***@db.example/carafe", "environment")
    assert settings["WORKER_CONCURRENCY"] == ("7", "env.local")
    assert settings["JOB_TIMEOUT"] == ("300", "default")
    table = bare("config", DATABASE_URL=url).out
    assert table.splitlines()[0].split() == ["SETTING", "SOURCE", "VALUE"]
    assert PASSWORD not in answer.out + table


def test_config_shows_and_documents_the_settings_of_an_application(bare: Command, here: Path) -> None:
    own = {"SETTINGS_CLASS": "briefings.settings:BriefingSettings"}
    url = "https://hooks.example.org/secret"
    shown = bare("config", **own, BRIEFING_WEBHOOK_URL=url, BRIEFING_WEBHOOK_SECRET=PASSWORD).out
    assert "BRIEFING_WEBHOOK_URL" in shown
    assert "https://hooks.example.org/***" in shown
    assert PASSWORD not in shown
    assert (
        "| `BRIEFING_WEBHOOK_SECRET` |  | text | Secret sent to the webhook in a header. |"
        in bare("config", "--markdown", **own).out
    )
    assert "BRIEFING" not in bare("config", "--markdown").out


def test_bad_settings_are_all_told_at_once_with_code_2(bare: Command) -> None:
    answer = bare("queues", PORT="http", WORKER_CONCURRENCY="0", DATABASE_URL=f"mysql://root:{PASSWORD}@db")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: 3 faulty settings\n")
    for name in ("PORT: ", "WORKER_CONCURRENCY: ", "DATABASE_URL: "):
        assert f"\n  {name}" in answer.err
    assert PASSWORD not in answer.err


def test_a_dashboard_user_is_made_from_a_password_on_standard_input(bare: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(text: str, *arguments: str) -> Answer:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return bare("dashboard", "hash-password", *arguments)

    made = typed("correct horse\n", "ana", "operate")
    assert (made.code, "correct horse" in made.out + made.err) == (0, False)
    other = typed("battery staple", "ben b", "view", "--json").json["entry"]
    settings = Settings.model_validate({"dashboard_users": f"{made.out.strip()}, {other}"})
    assert [(user.name, user.role) for user in settings.dashboard_users] == [("ana", "operate"), ("ben b", "view")]
    assert argon2.PasswordHasher().verify(settings.dashboard_users[0].password_hash, "correct horse")
    assert "argon2id" not in bare("config", DASHBOARD_USERS=made.out.strip()).out
    for text, arguments in (("short\n", ("ana", "view")), ("", ("ana", "view")), ("long enough\n", ("a:b", "view"))):
        refused = typed(text, *arguments)
        assert (refused.code, refused.out) == (2, "")
    assert typed("long enough\n", "ana", "boss").code == 2


def test_a_secret_key_is_one(bare: Command) -> None:
    first, second = (bare("dashboard", "secret-key", "--json").json["key"] for _ in range(2))
    assert first != second
    assert Settings.model_validate({"dashboard_secret_keys": f"{first},{second}"}).dashboard_secret_keys
    shown = bare("config", DASHBOARD_SECRET_KEYS=f"{first},{second}").out
    assert first not in shown
    assert second not in shown


@pytest.mark.parametrize(
    "command", [["queues"], ["jobs", "list"], ["migrate"], ["serve"], ["serve", "--worker"]], ids=" ".join
)
def test_without_servers_it_says_how_to_get_them(bare: Command, command: list[str]) -> None:
    answer = bare(*command)
    assert (answer.code, answer.out) == (5, "")
    names = "DATABASE_URL" if command == ["migrate"] else "DATABASE_URL and REDIS_URL"
    assert f"error: {names}: not set, and no `carafe dev` is running" in answer.err
    assert "start it, or set" in answer.err


def test_a_module_that_cannot_be_imported_is_told_by_its_setting(carafe: Command) -> None:
    answer = carafe("kinds", JOB_MODULES="nowhere.jobs")
    assert answer.code == 2
    assert answer.err.startswith("error: JOB_MODULES: 'nowhere.jobs' cannot be imported")


def test_modules_are_found_in_the_current_folder(bare: Command, here: Path) -> None:
    (here / "corner_shop.py").write_text(
        "from carafe import Job\nclass Sell(Job, kind='cli.corner-shop'):\n    amount: int\n"
    )
    answer = bare("kinds", "--json", JOB_MODULES="corner_shop")
    assert "cli.corner-shop" in [kind["kind"] for kind in answer.json]


def test_a_token_and_its_entry_fit(bare: Command) -> None:
    made = bare("token", "ci", "operate", "--json").json
    assert made["entry"] == f"ci:operate:{hash_token(made['token'])}"
    (known,) = load_settings(api_tokens=made["entry"]).api_tokens
    assert (known.name, known.role, known.digest) == ("ci", "operate", hash_token(made["token"]))
    assert bare("token", "ci", "operate", "--json").json["token"] != made["token"]
    shown = bare("token", "someone else", "view").out.split()
    assert (shown[0], shown[2]) == ("token", "entry")


@pytest.mark.parametrize("arguments", [["a:b", "view"], ["a,b", "view"], ["", "view"], ["ci", "admin"], ["ci"]])
def test_a_token_that_api_tokens_could_not_hold_is_refused(bare: Command, arguments: list[str]) -> None:
    answer = bare("token", *arguments)
    assert (answer.code, answer.out) == (2, "")


def test_without_the_embedded_servers_it_says_how_to_get_them(bare: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "carafe.dev.embedded", raising=False)
    monkeypatch.setitem(sys.modules, "psutil", None)
    modules = {"JOB_MODULES": "tests.cli.declared", "HANDLER_MODULES": "tests.cli.handled"}
    answer = bare("dev", PORT="0", DASHBOARD_PORT="0", PROBE_PORT="0", **modules)
    assert (answer.code, answer.out) == (2, "")
    assert "the embedded servers are not installed: pip install 'carafe-jobs[embedded]', or set DATABASE_URL" in answer.err
    assert "Traceback" not in answer.err


def test_without_any_module_commands_work(bare: Command, database_url: str, redis_url: str) -> None:
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    for command in (
        ["jobs", "list"],
        ["queues"],
        ["kinds"],
        ["config"],
        ["migrate"],
        ["queues", "pause"],
        ["queues", "resume"],
    ):
        answer = bare(*command, **servers)
        assert answer.code == 0, (command, answer.err)
    found = bare("doctor", **servers).out
    assert not [line for line in found.splitlines() if line.startswith("broken") and "_MODULES" in line]


def test_version(bare: Command) -> None:
    assert bare("--version").out.strip() == library.__version__
    assert bare("version").out.strip() == library.__version__
    assert bare("version", "--json").json == {"version": library.__version__}


def test_migrate_twice_finds_nothing_to_do(carafe: Command) -> None:
    assert carafe("migrate", "--json").json == {"applied": []}
    assert carafe("migrate").out == "nothing to apply: the schema is current\n"


def test_migrations_that_are_not_there_are_told(carafe: Command) -> None:
    answer = carafe("migrate", MIGRATIONS="nowhere.migrations")
    assert answer.code == 2
    assert answer.err.startswith("error: MIGRATIONS: 'nowhere.migrations' cannot be imported")


def test_a_database_that_is_not_there_and_one_without_schema_are_code_5(carafe: Command, database_url: str) -> None:
    server = database_url.rsplit("/", 1)[0]
    refused = carafe("queues", DATABASE_URL=f"{server}/nowhere")
    assert refused.code == 5
    assert "DATABASE_URL: Postgres refuses" in refused.err
    empty = carafe("queues", DATABASE_URL=f"{server}/postgres")
    assert empty.code == 5
    assert "run `carafe migrate`" in empty.err


def test_usage_errors_are_code_2_and_help_is_code_0(bare: Command) -> None:
    assert bare("frobnicate").code == 2
    assert bare("serve", "--fast").code == 2
    assert bare("jobs", "show").code == 2
    for command in ([], ["jobs"], ["enqueue"], ["dev"], ["serve"]):
        assert bare(*command, "--help").code == 0


def test_the_process_ends_with_the_code(here: Path, database_url: str, redis_url: str) -> None:
    settings = application(database_url, redis_url)
    assert process("enqueue", "cli.greet", "name=Ada", folder=here, **settings).code == 0
    refused = process("enqueue", "cli.greet", folder=here, **settings)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: the arguments of 'cli.greet' are not valid\n  name: Field required\n"
    assert process("jobs", "show", "0190a0a0-0000-7000-8000-000000000000", folder=here, **settings).code == 3
    assert json.loads(process("jobs", "list", "--json", folder=here, **settings).out)["jobs"]
