"""A project that `django-admin startproject` has just written, with SQLite: each step says in words what is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from carafe.settings.settings import Settings
from tests.projects import Project

pytestmark = pytest.mark.process


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project `shop`, with ``carafe.django`` among its applications and nothing else."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    subprocess.run([sys.executable, "-m", "django", "startproject", "shop", tmp_path], check=True)
    with (tmp_path / "shop" / "settings.py").open("a") as file:
        file.write("INSTALLED_APPS.append('carafe.django')\n")
    return Project(tmp_path, "", "", {"DJANGO_SETTINGS_MODULE": "shop.settings"})


def set_up(project: Project, text: str) -> None:
    """Adds Postgres and this text to the project's settings."""
    database = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "1", "NAME": "shop"}
    with (project.folder / "shop" / "settings.py").open("a") as file:
        file.write(f"DATABASES = {{'default': {database}}}\n{text}\n")


def manage(project: Project, *arguments: str, code: int) -> str:
    return project.run(sys.executable, "manage.py", *arguments, code=code)


def test_with_sqlite_every_command_says_what_the_checks_say(fresh: Project) -> None:
    told = "DATABASES['default'] is sqlite, and jobs need Postgres"
    assert told in manage(fresh, "check", code=1)
    for arguments in (["jobs", "list"], ["serve", "--worker"], ["migrate"]):
        said = manage(fresh, "carafe", *arguments, code=2)
        assert said.startswith("CommandError: CARAFE: ")
        assert told in said
        assert "Traceback" not in said
    called = "from django.core.management import CommandError, call_command\nimport django; django.setup()\n"
    called += "try: call_command('carafe', 'jobs', 'list')\nexcept CommandError as error: print(error)"
    assert told in fresh.script(called)


def test_without_carafe_the_check_warns_that_nothing_can_be_enqueued(fresh: Project) -> None:
    set_up(fresh, "")
    said = fresh.run(sys.executable, "manage.py", "check", "--fail-level", "WARNING", code=1)
    assert "(carafe.W001) JOB_MODULES is empty" in said


def test_modules_that_cannot_be_imported_are_found_by_the_check(fresh: Project) -> None:
    (fresh.folder / "shop" / "jobs.py").write_text("import nowhere_at_all\n")
    set_up(
        fresh, "CARAFE = {'JOB_MODULES': ['shop.jobs', 'shop.jbos'], 'HANDLER_MODULES': ['shop.handelrs', 'lost.handlers']}"
    )
    said = manage(fresh, "check", code=1)
    assert (
        "(carafe.E002) JOB_MODULES: 'shop.jobs' cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"
        in said
    )
    assert "(carafe.E002) JOB_MODULES: 'shop.jbos' cannot be imported" in said
    assert "(carafe.E003) HANDLER_MODULES: 'shop.handelrs' cannot be found" in said
    assert "(carafe.E003) HANDLER_MODULES: 'lost.handlers' cannot be imported" in said


def test_modules_with_handlers_are_not_imported_by_the_check(fresh: Project) -> None:
    (fresh.folder / "shop" / "jobs.py").touch()
    (fresh.folder / "shop" / "handlers.py").write_text("raise SystemExit('imported')\n")
    set_up(fresh, "CARAFE = {'JOB_MODULES': ['shop.jobs'], 'HANDLER_MODULES': ['shop.handlers']}")
    assert "no issues" in manage(fresh, "check", code=0)
