"""A command in the wrong folder, or on a project that is not installed, says so before it starts anything."""

import sys
from pathlib import Path

import pytest

from carafe.settings.settings import Settings
from carafe.settings.sources import OF_THE_PROJECT
from tests.cli.conftest import Command, process


@pytest.fixture
def package(bare: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of a new application, as the current folder: one too deep."""
    assert bare("init", "shop").code == 0
    monkeypatch.chdir(here / "shop" / "shop")
    return here / "shop" / "shop"


@pytest.mark.parametrize("options", [[], ["--reload"]])
def test_dev_starts_nothing_and_says_where_the_application_is(bare: Command, package: Path, options: list[str]) -> None:
    before = sorted(package.iterdir())
    answer = bare("dev", *options)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"error: no pyproject.toml with [tool.carafe] in {package}; "
        f"there is one in {package.parent}: run the command there\n"
    )
    assert sorted(package.iterdir()) == before


def test_commands_that_know_no_kind_and_no_server_say_it_too(bare: Command, package: Path) -> None:
    told = f"there is one in {package.parent}: run the command there"
    for arguments in (["enqueue", "shop.greet", "name=Ada"], ["kinds", "paused"], ["jobs", "list"]):
        answer = bare(*arguments)
        assert answer.code != 0
        assert told in answer.err, arguments
    # A process of its own: kinds that other tests have declared here would not be missing.
    findings = process("doctor", "--json", folder=package).json
    assert [one["advice"] for one in findings if one["subject"] == "jobs" and told in one["advice"]]


def test_in_the_folder_of_the_application_nothing_is_said(
    bare: Command, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package.parent)
    assert "run the command" not in bare("jobs", "list").err


def test_variables_of_the_environment_name_an_application_in_any_folder(bare: Command, package: Path) -> None:
    assert "run the command" not in bare("jobs", "list", JOB_MODULES="tests.cli.declared").err


def test_in_a_django_project_its_own_command_is_named(bare: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "manage.py").touch()
    assert "read by its manage.py: run `python manage.py carafe`\n" in bare("dev").err
    (here / "shop").mkdir()
    monkeypatch.chdir(here / "shop")
    assert f"run `python manage.py carafe` in {here}\n" in bare("dev").err


def test_without_any_application_the_setting_is_named(bare: Command, here: Path) -> None:
    assert "HANDLER_MODULES is empty" in bare("dev").err
    assert list(here.iterdir()) == []


MODULES = {
    name: "corner.part:named" if name in ("settings_class", "web_application", "worker_application") else "corner.part"
    for name in OF_THE_PROJECT
}
"""A value for each setting that names a module."""


@pytest.mark.parametrize("setting", MODULES)
def test_a_module_in_src_that_is_not_installed(bare: Command, here: Path, setting: str) -> None:
    (here / "src" / "corner").mkdir(parents=True)
    (here / "src" / "corner" / "part.py").write_text("named = None\n")
    said = bare("doctor", **{setting.upper(): MODULES[setting]}).out
    assert "it is in src/, which is not installed: run `pip install -e .`, or set PYTHONPATH=src" in said
    assert "in src/" not in bare("doctor", **{setting.upper(): "nowhere.at:all"}).out


def test_a_module_of_an_installed_src_has_faults_of_its_own(
    bare: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "src" / "installed_corner").mkdir(parents=True)
    (here / "src" / "installed_corner" / "jobs.py").write_text("import nowhere_at_all\n")
    monkeypatch.setattr(sys, "path", [str(here / "src"), *sys.path])
    said = bare("doctor", JOB_MODULES="installed_corner.jobs").out
    assert "No module named 'nowhere_at_all'" in said
    assert "in src/" not in said


def test_web_and_worker_say_it_at_their_start(here: Path) -> None:
    from celery.exceptions import ImproperlyConfigured

    from carafe.engine.application import application_of
    from carafe.serving import load_application
    from carafe.web.server import CannotServe

    (here / "src" / "corner").mkdir(parents=True)
    with pytest.raises(CannotServe, match="pip install -e"):
        load_application(Settings(web_application="corner.web:app"))
    with pytest.raises(ImproperlyConfigured, match="pip install -e"):
        application_of(Settings(worker_application="corner.worker:app"))
