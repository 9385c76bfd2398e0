"""The command as these tests call it: in this process, or as one of its own where the process matters."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carafe.cli import main
from carafe.settings.settings import Settings
from tests.forked import CARAFE, run

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Answer:
    """What one run of the command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


def bare_environment() -> dict[str, str]:
    """This process's environment without any setting of Carafe."""
    names = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name not in names}


def as_the_repository(folder: Path) -> None:
    """Let commands in this folder find what the repository's `[tool.carafe]` says: the briefing service's parts."""
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")


def application(database_url: str, redis_url: str) -> dict[str, str]:
    """The settings that make the jobs of these tests the application, on these servers."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JOB_MODULES": "tests.cli.declared",
        "HANDLER_MODULES": "tests.cli.handled",
        "MIGRATIONS": "briefings.migrations",
        "WORKER_APPLICATION": "carafe.engine.application:app",
        "PROBE_PORT": "0",
        "PORT": "0",
        "DASHBOARD_PORT": "0",
    }


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty current folder, no setting, and nothing left behind in this process."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def bare(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command without any setting but those given: `bare("config", LOG_LEVEL="DEBUG")`."""

    def run(*arguments: str, **environment: str) -> Answer:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            capsys.readouterr()
            code = main(arguments)
            shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return run


@pytest.fixture
def carafe(bare: Command, database_url: str, redis_url: str) -> Command:
    """The command with the tests' jobs, on a database of the module's own."""

    def run(*arguments: str, **environment: str) -> Answer:
        return bare(*arguments, **(application(database_url, redis_url) | environment))

    return run


def process(*arguments: str, folder: Path, **environment: str) -> Answer:
    """The command as a process of its own."""
    return Answer(
        *run(
            [*CARAFE, *arguments],
            folder=folder,
            environment=bare_environment() | {"PYTHONPATH": str(ROOT)} | environment,
            within=60,
        )
    )
