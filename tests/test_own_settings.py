"""Settings that an application adds to Carafe's: read, checked, shown and documented with them; and `[tool.carafe]`."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, model_validator

from briefings.settings import BriefingSettings
from carafe.settings.settings import Settings, SettingsError, load_api_settings, load_settings, settings_markdown
from carafe.settings.sources import OF_THE_PROJECT

ROOT = Path(__file__).parent.parent
THIS = "tests.test_own_settings:ShopSettings"


class ShopSettings(Settings):
    """What a shop sets."""

    stripe_key: SecretStr = Field(min_length=8, description="Key of the payment service.")
    currencies: tuple[str, ...] = ("EUR",)
    rates: dict[str, float] = Field(default_factory=dict)
    discount: float = Field(0, ge=0, le=0.5)
    worker_concurrency: int = 12

    @model_validator(mode="after")
    def _has_rates(self) -> "ShopSettings":
        missing = sorted(set(self.currencies) - {"EUR", *self.rates})
        if missing:
            raise ValueError(f"RATES: has none for {', '.join(missing)}")
        return self


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*BriefingSettings.model_fields, *ShopSettings.model_fields]:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


SetAll = Callable[..., None]


@pytest.fixture
def set_all(monkeypatch: pytest.MonkeyPatch) -> SetAll:
    def set_them(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_them


def refused(*arguments: Any, load: Callable[..., Settings] = load_settings) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load(*arguments)
    return list(error.value.faults)


def test_the_class_that_a_setting_names_is_read_with_ours(set_all: SetAll) -> None:
    set_all(SETTINGS_CLASS=THIS, STRIPE_KEY="sk_live_1", CURRENCIES="EUR, USD", RATES='{"USD": 1.1}', PORT="9000")
    settings = load_settings()
    assert type(settings) is ShopSettings
    assert settings.stripe_key.get_secret_value() == "sk_live_1"
    assert (settings.currencies, settings.rates) == (("EUR", "USD"), {"USD": 1.1})
    assert (settings.port, settings.worker_concurrency) == (9000, 12)
    assert type(load_api_settings()) is ShopSettings


def test_the_class_may_be_given_and_then_nothing_names_it(set_all: SetAll) -> None:
    set_all(STRIPE_KEY="sk_live_1", CURRENCIES='["EUR"]')
    assert load_settings(ShopSettings).currencies == ("EUR",)
    assert type(load_settings()) is Settings


def test_a_misspelt_one_is_told(set_all: SetAll) -> None:
    set_all(STRIPE_KYE="sk_live_1", STRIPE_KEY="sk_live_2")
    assert ("STRIPE_KYE", "STRIPE_KEY") in load_settings(ShopSettings).misspelled


def test_a_misspelt_one_that_is_required_is_told_with_the_fault(set_all: SetAll) -> None:
    Path("env.local").write_text("STRIPE_KYE=sk_live_1\nWORKER_CONCURENCY=9\n")
    set_all(ENVIRONMENT="development", PORT="http")
    assert refused(ShopSettings) == [
        "PORT: must be a whole number from 0 to 65535 (got 'http')",
        "STRIPE_KEY: is required: text (Key of the payment service.); STRIPE_KYE is set: did you mean STRIPE_KEY?",
    ]
    with pytest.raises(SettingsError) as error:
        load_settings(ShopSettings)
    ignored = ["WORKER_CONCURENCY is not a setting, and is ignored: did you mean WORKER_CONCURRENCY?"]
    assert list(error.value.ignored) == ignored
    assert str(error.value).splitlines() == [*error.value.faults, *ignored]


def test_one_of_ours_that_production_requires_is_told_as_misspelt(set_all: SetAll) -> None:
    set_all(ENVIRONMENT="production", DATABASE_URLS="postgresql://u@h/d", REDIS_ULR="redis://r", API_TOKEN="ci:view:x")
    told = {fault.partition(":")[0]: fault.partition("; ")[2] for fault in refused(load=load_api_settings)}
    assert told["DATABASE_URL"] == "DATABASE_URLS is set: did you mean DATABASE_URL?"
    assert told["REDIS_URL"] == "REDIS_ULR is set: did you mean REDIS_URL?"
    assert told["API_TOKENS"].endswith("; API_TOKEN is set: did you mean API_TOKENS?")


def test_its_faults_are_told_with_ours_all_at_once(set_all: SetAll) -> None:
    set_all(SETTINGS_CLASS=THIS, DISCOUNT="0.9", RATES="1.1", PORT="http", ENVIRONMENT="production", REDIS_URL="redis://r")
    assert refused() == [
        "DATABASE_URL: is required in production, such as postgresql://user:password@host:5432/database",
        "PORT: must be a whole number from 0 to 65535 (got 'http')",
        "STRIPE_KEY: is required: text (Key of the payment service.)",
        "RATES: must be a valid dictionary (got 1.1)",
        "DISCOUNT: must be less than or equal to 0.5 (got '0.9')",
    ]


def test_what_does_not_fit_together_in_it_is_told_with_what_does_not_in_ours(set_all: SetAll) -> None:
    set_all(SETTINGS_CLASS=THIS, STRIPE_KEY="sk_live_1", CURRENCIES="USD", JOB_RETRY_BASE="60", JOB_RETRY_CAP="10")
    assert refused() == [
        "JOB_RETRY_CAP: must be JOB_RETRY_BASE (60 s) or more",
        "RATES: has none for USD",
    ]


def test_a_secret_of_its_own_is_never_repeated(set_all: SetAll) -> None:
    set_all(SETTINGS_CLASS=THIS, STRIPE_KEY="sk_1")
    assert "sk_1" not in "".join(refused())
    settings = load_settings(stripe_key="sk_live_1")
    assert "sk_live_1" not in f"{settings!r} {settings.effective()} {settings.model_dump_json()}"
    assert ("STRIPE_KEY", "**********", "argument") in settings.effective()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("nowhere.settings:Settings", "'nowhere.settings:Settings' cannot be imported: ModuleNotFoundError: No module"),
        ("tests.test_own_settings:Missing", "cannot be imported: AttributeError"),
        ("tests.test_own_settings:THIS", "is not a subclass of carafe.Settings"),
        ("not a module", "must be a module and a name in it"),
    ],
)
def test_a_class_that_cannot_be_used_is_a_fault_beside_the_others(set_all: SetAll, named: str, says: str) -> None:
    set_all(SETTINGS_CLASS=named, PORT="http")
    first, second = refused()
    assert first.startswith("SETTINGS_CLASS: ")
    assert says in first
    assert second.startswith("PORT: ")


def test_its_table_stands_below_ours() -> None:
    text = settings_markdown(ShopSettings)
    assert text.startswith(settings_markdown())
    own = text.removeprefix(settings_markdown())
    assert "## Settings of the application (`tests.test_own_settings:ShopSettings`)" in own
    assert "| `STRIPE_KEY` | `required` | text | Key of the payment service. |" in own
    assert "| `CURRENCIES` | `EUR` | names separated by commas |  |" in own
    assert "| `DISCOUNT` | `0` | a number from 0 to 0.5 |  |" in own
    assert "PORT" not in own


def test_a_project_names_its_parts_in_pyproject_toml(set_all: SetAll) -> None:
    Path("pyproject.toml").write_text(
        f'[tool.carafe]\nsettings_class = "{THIS}"\njob_modules = ["shop.jobs"]\nmigrations = "shop.migrations"\n'
    )
    Path("env.local").write_text("JOB_MODULES=mine.jobs\nSTRIPE_KEY=sk_live_1\n")
    shown = {name: (value, source) for name, value, source in load_settings().effective()}
    assert shown["SETTINGS_CLASS"] == (THIS, "pyproject.toml")
    assert shown["MIGRATIONS"] == ("shop.migrations", "pyproject.toml")
    assert shown["JOB_MODULES"] == ("mine.jobs", "env.local")
    assert shown["HANDLER_MODULES"] == ("", "default")
    set_all(JOB_MODULES="theirs.jobs", SETTINGS_CLASS="", MIGRATIONS="")
    settings = load_settings()
    assert (type(settings), settings.job_modules, settings.migrations) == (Settings, ("theirs.jobs",), ())


def test_production_reads_pyproject_toml_too(set_all: SetAll) -> None:
    Path("pyproject.toml").write_text('[tool.carafe]\njob_modules = ["shop.jobs"]\n')
    set_all(ENVIRONMENT="production", DATABASE_URL="postgresql://a@b/c", REDIS_URL="redis://r")
    assert load_settings().job_modules == ("shop.jobs",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[tool.carafe]\njob-modules = ["shop.jobs"]\n', "[tool.carafe] has 'job-modules': did you mean 'job_modules'?"),
        (
            "[tool.carafe]\nport = 9000\n",
            f"may only have {', '.join(OF_THE_PROJECT)}; set everything else in the environment",
        ),
        ("[tool.carafe\n", "pyproject.toml: cannot be read: "),
        ("[tool]\ncarafe = 5\n", "[tool.carafe] must be a table"),
        ("[tool.carafe]\njob_modules = 5\n", "JOB_MODULES: must be module names separated by commas (got 5)"),
    ],
)
def test_a_fault_of_the_table_is_told(text: str, says: str) -> None:
    Path("pyproject.toml").write_text(text)
    (fault,) = refused()
    assert says in fault


def test_a_pyproject_toml_without_our_table_changes_nothing_whatever_is_in_it() -> None:
    Path("pyproject.toml").write_text("not TOML at all")
    assert load_settings().job_modules == ()


def test_every_part_of_this_repository_that_its_table_names_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = load_settings()
    assert type(settings) is BriefingSettings
    for name in OF_THE_PROJECT:
        value = getattr(settings, name)
        for module in value if isinstance(value, tuple) else [value.partition(":")[0]]:
            assert importlib.util.find_spec(module) is not None, name


def test_no_line_of_the_library_speaks_of_the_briefing_service() -> None:
    done = subprocess.run(
        ["git", "grep", "-inE", r"briefing|app\.main|worker\.handlers|worker:app", "--", "carafe"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout == ""
