"""mypy reports users' mistakes on the lines that have them, and reports no correct line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documented.python_blocks import PythonBlock, program_of, written_to

ROOT = Path(__file__).parent.parent.parent
MISTAKES = ROOT / "tests" / "typed" / "mistakes.py"

PLUGINS = """
[mypy]
strict = true
plugins = pydantic.mypy, carafe.mypy
[pydantic-mypy]
init_forbid_extra = true
init_typed = true
"""
NO_PLUGIN = """
[mypy]
strict = true
"""


def marked(*marks: str) -> list[int]:
    """The lines with one of these marks."""
    lines = enumerate(MISTAKES.read_text().splitlines(), 1)
    return [number for number, line in lines if any(f"  # {mark}: " in line for mark in marks)]


def mypy(*files: Path, name: str, configuration: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check files as a user would. `folder` gets the configuration, and has the packages that the files import."""
    settings = folder / "mypy.ini"
    settings.write_text(configuration)
    # The cache stays from run to run: without one mypy reads the library and SQLAlchemy first.
    cache = ROOT / ".mypy_cache" / f"user_code_{name}"
    command = [sys.executable, "-m", "mypy", f"--config-file={settings}", f"--cache-dir={cache}", "--follow-imports=silent"]
    environment = os.environ | {"MYPYPATH": str(folder)}
    return subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "configuration", "wrong"),
    [("plugins", PLUGINS, marked("wrong", "wrong (plugin)")), ("no_plugin", NO_PLUGIN, marked("wrong"))],
    ids=["plugins", "no_plugin"],
)
def test_mypy_names_each_mistake_and_nothing_else(name: str, configuration: str, wrong: list[int], tmp_path: Path) -> None:
    done = mypy(MISTAKES, name=name, configuration=configuration, folder=tmp_path)

    found = sorted({int(line) for line in re.findall(r"mistakes\.py:(\d+): error: ", done.stdout)})
    assert found == wrong, done.stdout + done.stderr
    assert len(found) >= 15


def test_mypy_accepts_every_python_example_of_the_documentation(tmp_path: Path) -> None:
    programs = dict(written_to(tmp_path))
    wrong = program_of(PythonBlock("docs/wrong.md", 10, "from carafe import Job\n\nJob(kind=1)\n"))
    programs[tmp_path / "wrong.py"] = wrong
    (tmp_path / "wrong.py").write_text(wrong.text)
    done = mypy(*programs, name="plugins", configuration=PLUGINS, folder=tmp_path)

    said = {path.name: program for path, program in programs.items()}
    assert [
        f"{said[name].place(int(line))}: {error}"
        for name, line, error in re.findall(r"(\w+\.py):(\d+): error: (.*)", done.stdout)
    ] == ['docs/wrong.md:12: Unexpected keyword argument "kind" for "Job"  [call-arg]'], done.stdout + done.stderr
