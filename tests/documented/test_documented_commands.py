"""Each command of README.md, CONTRIBUTING.md and docs/ in its smallest form, beside one running `make dev`."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from carafe.settings.local_servers import announced
from carafe.settings.settings import Settings
from tests import test_smallest_rounds
from tests.cli.conftest import as_the_repository, bare_environment
from tests.cli.running import Running, running, started
from tests.documented.commands import ROOT, Command, documented, unmarked
from tests.documented.forms import FORMS, Assignment, Elsewhere, Parsed, Recipe, RunBy, Serves, Shell, form_of
from tests.programs import programs

pytestmark = pytest.mark.process

INSTALLED = ("--old-file", ".venv/dev-stamp", "--old-file", ".venv/stamp")
"""What keeps `make` from installing anything."""

COMMANDS = list({command.text: command for command in documented()}.values())

PREREQUISITES = {
    name: f"{name} is not on this machine" for name in ("curl", "psql", "redis-cli", "kubectl") if shutil.which(name) is None
}
"""Programs that are not ours, by which a command is told to be left out."""


@dataclass(frozen=True)
class Stack:
    """A running `make dev`, and what a command line needs to meet it."""

    dev: Running
    folder: Path
    url: str
    dashboard: str
    environment: dict[str, str]
    dead: str
    briefing: str

    def meant(self, text: str) -> str:
        """A documented line with the places and ids of this stack in it."""
        for shown, here in (
            ("localhost:8080", self.url.removeprefix("http://")),
            ("localhost:8081", self.dashboard.removeprefix("http://")),
            ('"briefing_id": "…"', f'"briefing_id": "{self.briefing}"'),
            ("KIND", "briefing.generate"),
            ("…", "0"),
        ):
            text = text.replace(shown, here)
        return re.sub(r"\bID\b", self.dead, text)

    def shell(self, line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # Not pytest's own folder, which each run that begins closes to the account that Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="carafe-documented-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        bin_ = programs(folder)
        as_the_repository(folder)
        environment = bare_environment() | {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **dict.fromkeys(("PORT", "DASHBOARD_PORT", "PROBE_PORT"), "0"),
            "JOB_RETRY_BASE": "0.01",
            "JOB_RETRY_CAP": "0.01",
        }
        make = ["make", "--file", str(ROOT / "Makefile"), *INSTALLED, f"BIN={bin_}", "dev"]
        with started(make, folder=folder, environment=environment) as dev:
            try:
                dev.says("Ctrl-C stops everything")
                url, dashboard = (dev.says(rf"{name}\s+(http://\S+)")[1] for name in ("web", "dashboard"))
                servers = announced(folder / ".carafe")
                assert servers is not None
                environment |= {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
                with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
                    http.put("/sample-webhook/behaviour", json={"mode": "fail"}).raise_for_status()
                    failed = http.post("/api/v1/briefings", json={"topic": "tea"}).raise_for_status().json()
                    (job,) = http.get("/api/v1/jobs").raise_for_status().json()["jobs"]
                    made = Stack(dev, folder, url, dashboard, environment, job["id"], failed["id"])
                    assert made.shell(f"carafe jobs wait {job['id']} --timeout 1m").returncode == 6
                    http.put("/sample-webhook/behaviour", json={"mode": "ok"}).raise_for_status()
                yield made
            finally:
                # Ctrl-C in a terminal reaches what make has started; killed, make would leave it behind.
                for process in psutil.Process(dev.pid).children():
                    process.send_signal(signal.SIGINT)
                assert dev.wait() == 0, dev.output


def test_every_command_has_a_form_and_every_form_a_command() -> None:
    unknown = [str(command) for command in documented() if form_of(command.text) is None]
    assert not unknown, "say in tests/documented/forms.py how they are run, or why they cannot be"
    used = {form_of(command.text)[1].re.pattern for command in documented()}  # type: ignore[index]
    assert [pattern for pattern, _ in FORMS if pattern not in used] == []


def test_blocks_with_commands_say_so() -> None:
    assert unmarked() == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text[:80])
def test_it_runs(command: Command, stack: Stack, tmp_path: Path) -> None:
    found = form_of(command.text)
    assert found is not None, f"say in tests/documented/forms.py how it is run, or why it cannot be: {command}"
    form, match = found
    words = re.findall(r"[\w.-]+", command.text)
    match form:
        case Shell():
            if missing := [PREREQUISITES[word] for word in words if word in PREREQUISITES]:
                pytest.skip("; ".join(missing))
            line = form.line
            for name, value in {"0": command.text, "briefing": stack.briefing, **match.groupdict()}.items():
                line = line.replace(f"{{{name}}}", value or "")
            done = stack.shell(stack.meant(line))
            assert done.returncode in form.codes, f"{command}\n{done.stdout}\n{stack.dev.output[-3_000:]}"
            assert re.search(form.answers, done.stdout), f"{command}\n{done.stdout}"
            assert "Traceback" not in done.stdout
        case Serves():
            as_the_repository(tmp_path)
            with running(*form.arguments.split(), folder=tmp_path, **_own(stack)) as process:
                process.says(form.says)
                assert process.end() == 0, process.output
        case Recipe():
            make = ["make", "--file", str(ROOT / "Makefile"), *INSTALLED, "--dry-run"]
            done = subprocess.run([*make, *_words(command.text)[1:]], capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == 0, done.stderr
        case Parsed():
            program = [sys.executable, *_words(command.text)[1:], "--help"]
            done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
        case RunBy():
            assert callable(getattr(test_smallest_rounds, form.test))
        case Assignment():
            name = command.text.partition("=")[0]
            assert name.islower() or name.lower() in Settings.model_fields, f"{name} is not a setting: {command}"
        case Elsewhere():
            named = re.findall(r"(?<!\S)(?:deploy/kustomize/|docs/|tests/)[^\s:|,;]+", f"{command.text} {form.why}")
            assert [path for path in named if not (ROOT / path).exists()] == []


def _own(stack: Stack) -> dict[str, str]:
    """The settings with which another process runs beside the stack, on its servers."""
    names = ("DATABASE_URL", "REDIS_URL", "PORT", "DASHBOARD_PORT", "PROBE_PORT")
    return {name: stack.environment[name] for name in names}


def _words(text: str) -> list[str]:
    return shlex.split(text)
