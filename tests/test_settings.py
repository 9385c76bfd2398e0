"""Settings: all faults are reported at once, secrets are never shown, and the docs agree with the fields."""

import io
import logging
import re
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from briefings.settings import BriefingSettings
from carafe import Client
from carafe.dashboard import create_dashboard
from carafe.settings.describing import is_secret
from carafe.settings.settings import (
    ApiToken,
    Settings,
    SettingsError,
    hash_token,
    load_api_settings,
    load_dashboard_settings,
    load_settings,
    redact_url,
    settings_markdown,
)
from carafe.telemetry.logging import configure_logging
from carafe.web.application import create_web_application

ROOT = Path(__file__).parent.parent
PASSWORD = "hunter2-the-password"
DATABASE = f"postgresql://carafe:{PASSWORD}@db.example/carafe"
REDIS = f"redis://:{PASSWORD}@redis.example:6379/0"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from the shell that runs the tests, nor from the repository's env.local."""
    for name in BriefingSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def faults(**environment: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SettingsError) as refused:
            load_api_settings()
    assert str(refused.value) == "\n".join(refused.value.faults)
    return list(refused.value.faults)


def test_the_defaults_are_the_missions() -> None:
    settings = load_settings()
    assert settings.worker_concurrency == 5
    assert settings.job_max_retries == 3
    assert settings.job_timeout == 300
    assert type(settings) is Settings
    assert settings.job_modules == settings.handler_modules == settings.migrations == ()
    assert (settings.host, settings.log_format, settings.database_url) == ("127.0.0.1", "text", None)


def test_every_fault_is_told_at_once() -> None:
    told = faults(
        ENVIRONMENT="production",
        WORKER_CONCURRENCY="abc",
        JOB_TIMEOUT="0",
        LOG_LEVEL="loud",
        STEWARD="maybe",
        JOB_MODULES="a-b",
        DATABASE_URL="mysql://root@db/x",
    )
    assert told == [
        (
            "DATABASE_URL: must be a URL such as postgresql://user:password@host:5432/database "
            "(its scheme is none of postgresql://, postgres://, postgresql+asyncpg://, postgresql+psycopg://, "
            "postgresql+psycopg2://)"
        ),
        "REDIS_URL: is required in production, such as redis://:password@host:6379/0",
        "LOG_LEVEL: must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL (got 'loud')",
        "JOB_MODULES: must be module names such as 'shop.jobs', separated by commas (got 'a-b')",
        "WORKER_CONCURRENCY: must be a whole number from 1 to 10000 (got 'abc')",
        "JOB_TIMEOUT: must be a number of seconds above 0 and up to 604800 (got '0')",
        "STEWARD: must be true or false (got 'maybe')",
        "API_TOKENS: is required in production; `carafe token NAME ROLE` makes a token and its entry",
    ]


def test_settings_that_do_not_fit_together_are_refused() -> None:
    assert faults(JOB_RETRY_BASE="60", JOB_RETRY_CAP="10") == ["JOB_RETRY_CAP: must be JOB_RETRY_BASE (60 s) or more"]
    assert faults(DASHBOARD_PORT="8080") == ["DASHBOARD_PORT: must differ from PORT (both 8080)"]


def test_an_open_api_beyond_loopback_needs_so_many_words() -> None:
    (fault,) = faults(HOST="0.0.0.0")
    assert fault.startswith("HOST: '0.0.0.0' is reachable from other machines while API_TOKENS is empty")
    assert "ALLOW_OPEN_API=localhost" in fault
    assert "ALLOW_OPEN_API=everybody" in fault
    yes = ("true", "1", "yes", "ON", "t", "y", " Everybody ")
    for words, means in ((yes, "everybody"), (("localhost",), "localhost")):
        for word in words:
            assert load_api_settings(host="0.0.0.0", allow_open_api=word).allow_open_api == means, word
    assert load_api_settings(host="0.0.0.0", allow_open_api=True).allow_open_api == "everybody"
    for word in ("false", "0", "no", "off", "F", "n", "never"):
        assert faults(HOST="0.0.0.0", ALLOW_OPEN_API=word) == [fault], word
    assert faults(ALLOW_OPEN_API="maybe") == ["ALLOW_OPEN_API: must be one of never, localhost, everybody (got 'maybe')"]
    assert load_api_settings(host="0.0.0.0", api_tokens=f"ci:operate:{hash_token('t')}").host == "0.0.0.0"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
def test_loopback_needs_none(host: str) -> None:
    assert load_api_settings(host=host).host == host


def test_production_listens_everywhere_and_logs_json() -> None:
    settings = load_settings(
        environment="production", database_url=DATABASE, redis_url=REDIS, api_tokens=f"ci:view:{hash_token('t')}"
    )
    assert (settings.host, settings.probe_host, settings.log_format) == ("0.0.0.0", "0.0.0.0", "json")
    assert settings.api_tokens == (ApiToken("ci", "view", hash_token("t")),)


ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$RGln4m+dVoygBKaq33qrAA$WmaqiY1yYRe/NLi7aKahFGStcdedXNwckkppbrCVeCI"


@pytest.mark.parametrize("between", [",", ", ", "\n", ",\n  "])
def test_dashboard_users_are_told_apart_although_a_hash_has_commas(between: str) -> None:
    settings = Settings.model_validate({"dashboard_users": f"ana:operate:{ARGON2}{between}ben b:view:{ARGON2}\n"})
    assert [(user.name, user.role, user.password_hash) for user in settings.dashboard_users] == [
        ("ana", "operate", ARGON2),
        ("ben b", "view", ARGON2),
    ]
    assert ARGON2 not in repr(settings) + str(settings.effective())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("dashboard_users", "ana:operate:hunter2", "no argon2 hash; never put the password itself here"),
        ("dashboard_users", f"ana:operate:{ARGON2.replace('$', '')}", "its $ signs are gone"),
        ("dashboard_users", f"ana:boss:{ARGON2}", "the role of 'ana' is not view or operate"),
        ("dashboard_users", f"ana:view:{ARGON2},ana:view:{ARGON2}", "twice: ana"),
        ("dashboard_users", ARGON2, "not of that form"),
        ("dashboard_secret_keys", "hunter2", "32 random characters or more"),
        ("dashboard_proxy_networks", "10.0.0.1/8", "the address has bits beyond the network's"),
        ("dashboard_proxy_networks", "proxy.example", "networks such as 10.0.0.0/8"),
        ("dashboard_user_header", "X Forwarded", "the name of a header"),
        ("dashboard_open", "yes", "one of never, localhost, everybody"),
        ("dashboard_args", "all", "one of view, operate, never"),
        ("dashboard_streams", "0", "from 1"),
    ],
)
def test_what_is_wrong_with_a_setting_of_the_dashboard_is_said(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**{name: value})
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith(f"{name.upper()}: ")
    assert says in refused.value.faults[0]
    if "hunter2" in value:
        assert "hunter2" not in str(refused.value)


def test_settings_of_the_dashboard_that_need_each_other() -> None:
    production = {
        "environment": "production",
        "database_url": "postgresql://a@b/c",
        "redis_url": "redis://b",
        "api_tokens": f"a:view:{hash_token('t')}",
    }
    assert load_api_settings(**production).dashboard_closed
    for opened in (
        {"dashboard_users": f"ana:view:{ARGON2}"},
        {"dashboard_user_header": "X-User", "dashboard_proxy_networks": "10.0.0.0/8"},
        {"dashboard_open": "everybody"},
    ):
        for load in (load_api_settings, load_dashboard_settings):
            with pytest.raises(SettingsError, match=r"^DASHBOARD_SECRET_KEYS: is required in production with DASHBOARD_\w+"):
                load(**production, **opened)
            assert not load(**production, **opened, dashboard_secret_keys="k" * 32).dashboard_closed
            assert load(**opened).dashboard_secret_keys == ()
        # Where it is said that none is served, and where the settings were not loaded but made.
        assert load_api_settings(**production, **opened, dashboard=False).dashboard_secret_keys == ()
        made = Settings.model_validate({**production, **opened})
        with pytest.raises(SettingsError, match=r"^DASHBOARD_SECRET_KEYS: is required"):
            create_dashboard(made, Client.from_settings(made))
    with pytest.raises(SettingsError) as refused:
        load_api_settings(dashboard_user_header="X-User")
    assert refused.value.faults[0].startswith("DASHBOARD_PROXY_NETWORKS: is required with DASHBOARD_USER_HEADER")
    with pytest.raises(SettingsError, match=r"^DASHBOARD_OPERATORS: needs DASHBOARD_USER_HEADER"):
        load_dashboard_settings(dashboard_operators="ana")


def test_a_process_is_asked_only_for_what_it_serves() -> None:
    """Workers, migrations, canaries and child processes share the web's settings, and have none of its secrets."""
    production = {"environment": "production", "database_url": DATABASE, "redis_url": REDIS}
    shared: dict[str, str] = {"dashboard_user_header": "X-User", "dashboard_operators": "ana", "port": "8083"}
    assert load_settings(**production, **shared).metrics_port == 8083
    assert load_settings(host="0.0.0.0", port="8081").dashboard_port == 8081
    for load, asked in (
        (load_api_settings, ["METRICS_PORT", "API_TOKENS", "DASHBOARD_SECRET_KEYS", "DASHBOARD_PROXY_NETWORKS"]),
        (load_dashboard_settings, ["DASHBOARD_SECRET_KEYS", "DASHBOARD_PROXY_NETWORKS"]),
    ):
        with pytest.raises(SettingsError) as refused:
            load(**production, **shared)
        assert [fault.partition(":")[0] for fault in refused.value.faults] == asked
    assert faults(PORT="8081", DASHBOARD="false", METRICS_PORT="8081") == ["METRICS_PORT: must differ from PORT (both 8081)"]
    # The dashboard alone is of the same application, and serves no API.
    load_dashboard_settings(**production, port="8081")
    alone = load_settings(BriefingSettings, **production, port="8081")
    assert create_app(alone).state.carafe.settings is alone


def test_a_driver_in_the_url_is_dropped() -> None:
    url = load_settings(database_url="postgresql+asyncpg://u:p@h/d").database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://u:{PASSWORD}@h/d"),
        ("DATABASE_URL", f"postgresql://u:{PASSWORD}@h:port/d"),
        ("DATABASE_URL", PASSWORD),
        ("REDIS_URL", f"http://:{PASSWORD}@h"),
        ("REDIS_URL", f"redis://:{PASSWORD}@"),
        ("API_TOKENS", PASSWORD),
        ("API_TOKENS", f"ci:operate:{PASSWORD}"),
        ("API_TOKENS", f"[{PASSWORD}"),
    ],
)
def test_a_faulty_secret_is_not_repeated(name: str, value: str) -> None:
    told = "\n".join(faults(**{name: value}))
    assert name in told
    assert PASSWORD not in told


def test_a_password_shows_nowhere() -> None:
    settings = load_settings(
        BriefingSettings,
        database_url=DATABASE,
        redis_url=f"rediss://h/0?password={PASSWORD}",
        briefing_webhook_secret=PASSWORD,
        api_tokens=f"ci:view:{hash_token(PASSWORD)}",
    )
    shown = f"{settings!r} {settings} {settings.effective()} {settings.model_dump_json()} {settings.database_url}"
    assert PASSWORD not in shown
    assert "postgresql://carafe:***@db.example/carafe" in shown
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == DATABASE


@pytest.mark.parametrize("password", ["xyzzy/plugh", "xyzzy#plugh", "12/plugh", "12?plugh"])
def test_nor_does_one_that_should_have_been_escaped(password: str) -> None:
    try:
        shown = str(load_settings(database_url=f"postgresql://u:{password}@h/d"))
    except SettingsError as refused:
        shown = str(refused)
    assert "xyzzy" not in shown
    assert "plugh" not in shown


SECRET = "xyzzy-plugh"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://carafe:{SECRET}@db/carafe",
        f"postgresql://db/carafe?password={SECRET}&sslmode=require",
        f"postgresql://db/carafe?sslpassword={SECRET}",
        f"postgresql://db/carafe?options=-ccarafe.key%3D{SECRET}",
        f"postgresql://carafe:{SECRET}@one:5432,two:5433/carafe",
        f"redis://{SECRET}@redis:6379/0",
        f"rediss://:{SECRET}@redis:6379/0",
        f"redis://redis/0?ssl_password={SECRET}",
        f"https://{SECRET}@hooks.example.org/write",
        f"https://user:{SECRET}@hooks.example.org/write",
        f"https://hooks.example.org/services/T0/{SECRET}",
        f"https://hooks.example.org/write?token={SECRET}",
        f"https://hooks.example.org/write#{SECRET}",
        f"//{SECRET}",
        f"https://[{SECRET}",
    ],
)
def test_no_part_of_a_url_that_can_be_a_secret_shows(url: str) -> None:
    assert SECRET not in redact_url(url)


def test_what_helps_and_is_no_secret_still_shows() -> None:
    assert redact_url("postgresql://carafe:x@db:5432/jobs?sslmode=require&sslpassword=x") == (
        "postgresql://carafe:***@db:5432/jobs?sslmode=require&sslpassword=***"
    )
    assert redact_url("postgresql://carafe@db/jobs") == "postgresql://carafe@db/jobs"
    assert redact_url("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"
    assert redact_url("https://u:p@hooks.example.org:8443/a/b?c=d") == "https://***@hooks.example.org:8443/***?***"
    assert redact_url("http://collector:4317") == "http://collector:4317"


def test_every_setting_that_is_a_url_or_names_a_secret_is_one_by_its_class() -> None:
    fields = BriefingSettings.model_fields
    names = {name for name, info in fields.items() if is_secret(info)}
    urls = {name for name in fields if name.endswith(("_url", "_endpoint", "_url_template"))}
    words = ("password", "secret", "token", "key", "credential", "users", "otlp_headers")
    assert urls | {name for name in fields if any(word in name for word in words)} <= names
    assert {"database_url", "otel_exporter_otlp_endpoint", "briefing_webhook_url", "trace_url_template"} <= urls


def test_no_secret_shows_wherever_it_was_put() -> None:
    """Each setting in turn holds a URL with a secret: right or wrong, neither the settings nor the fault repeat it."""
    for name, info in BriefingSettings.model_fields.items():
        if not is_secret(info):
            continue
        https = f"https://u:{SECRET}@h/{{trace_id}}/{SECRET}"
        for value in (https, f"postgresql://u:{SECRET}@h/d", f"redis://{SECRET}@h", SECRET):
            try:
                settings = load_settings(BriefingSettings, **{name: value})
                shown = f"{settings!r} {settings.effective()} {settings.model_dump()} {settings.model_dump_json()}"
            except SettingsError as refused:
                shown = str(refused)
            assert SECRET not in shown, name


async def test_only_a_process_that_serves_the_api_needs_its_tokens() -> None:
    production = {"environment": "production", "database_url": DATABASE, "redis_url": REDIS}
    settings = load_settings(**production)
    assert settings.api_tokens == ()
    with pytest.raises(SettingsError, match=r"^API_TOKENS: is required in production"):
        load_api_settings(**production)
    app = create_web_application(settings)
    with pytest.raises(SettingsError, match=r"^API_TOKENS: is required in production"):
        async with app.router.lifespan_context(app):
            pass
    # A server that tells nobody of its start lets nobody in either.
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        refused = await http.get("/api/v1/jobs")
    assert (refused.status_code, "API_TOKENS" in refused.json()["detail"]) == (401, True)


def test_the_environment_wins_over_env_local_which_only_development_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("env.local").write_text("WORKER_CONCURRENCY=7\nPORT=9000\n# JOB_TIMEOUT=1\n")
    monkeypatch.setenv("PORT", "9001")
    settings = load_settings(job_timeout=60)
    sources = {name: (shown, source) for name, shown, source in settings.effective()}
    assert sources["WORKER_CONCURRENCY"] == ("7", "env.local")
    assert sources["PORT"] == ("9001", "environment")
    assert sources["JOB_TIMEOUT"] == ("60", "argument")
    assert sources["DASHBOARD_PORT"] == ("8081", "default")

    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SettingsError):
        load_settings()
    production = load_settings(database_url=DATABASE, redis_url=REDIS, api_tokens=f"ci:view:{hash_token('t')}")
    assert production.worker_concurrency == 5


def test_env_local_takes_variables_that_are_not_ours_and_a_misspelt_one_is_told() -> None:
    Path("env.local").write_text("WORKER_CONCURENCY=7\nSTRIPE_KEY=sk_1\n")
    settings = load_settings()
    assert settings.worker_concurrency == 5
    assert settings.misspelled == [("WORKER_CONCURENCY", "WORKER_CONCURRENCY")]


def test_faults_of_env_local_are_told_with_the_others() -> None:
    Path("env.local").write_text("ENVIRONMENT=production\nPORT=http\n")
    told = faults(JOB_TIMEOUT="never", SOMETHING_ELSE="is ignored")
    assert [fault.partition(":")[0] for fault in told] == ["ENVIRONMENT", "JOB_TIMEOUT", "PORT"]
    assert told[0].startswith("ENVIRONMENT: must be set in the environment")


def test_a_value_in_env_local_is_taken_as_it_is_written() -> None:
    Path("env.local").write_text("OTEL_SERVICE_NAME=shop${HOME}\nLOG_LEVEL=\n")
    settings = load_settings()
    assert settings.otel_service_name == "shop${HOME}"
    assert settings.log_level == "INFO"


def test_an_empty_variable_is_unset_and_empties_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKER_CONCURRENCY", "DATABASE_URL", "MIGRATIONS", "JOB_MODULES"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.worker_concurrency == 5
    assert settings.database_url is None
    assert settings.migrations == settings.job_modules == ()


def test_lists_are_commas_or_json() -> None:
    assert load_settings(job_modules="a.b, c").job_modules == ("a.b", "c")
    assert load_settings(job_modules='["a.b", "c"]').job_modules == ("a.b", "c")


def test_settings_are_frozen_and_hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")
    settings = Settings()
    assert settings.port == 8080
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_the_docs_say_what_the_fields_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_markdown(), (
        "run: python -m carafe.settings.settings > docs/settings.md"
    )


def test_env_local_names_every_setting_and_sets_none() -> None:
    lines = (ROOT / "env.local").read_text().splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []
    named = [line.removeprefix("# ").partition("=")[0] for line in lines if re.match(r"# [A-Z_]+=", line)]
    assert set(named) == {name.upper() for name in BriefingSettings.model_fields} - {"ENVIRONMENT"}


@pytest.mark.parametrize("name", ["JOB_RETRY_BSE", "JOB_RETRY_BASEE", "JOB_RETRY_BASA", "JOB_RETRY_BAES", "job_retry_bse"])
def test_a_misspelled_variable_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "5")
    settings = load_settings()
    assert (name, "JOB_RETRY_BASE") in settings.misspelled
    shown = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    configure_logging(settings, shown)
    assert f"{name} is not a setting, and is ignored: did you mean JOB_RETRY_BASE?" in shown.getvalue()


@pytest.mark.parametrize("name", ["HOSTS", "POST", "JOB_RETRY", "JOB_RETRY_SAVE", "CELERY_BROKER_URL", "JOB_RETRY_BASE"])
def test_what_is_nobodys_mistake_is_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "5")
    assert name not in dict(load_settings().misspelled)
