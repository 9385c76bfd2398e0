"""mypy reports users' mistakes on the lines that have them, and reports no correct line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("name", "configuration", "wrong"),
    [("plugins", PLUGINS, marked("wrong", "wrong (plugin)")), ("no_plugin", NO_PLUGIN, marked("wrong"))],
    ids=["plugins", "no_plugin"],
)
def test_mypy_names_each_mistake_and_nothing_else(name: str, configuration: str, wrong: list[int], tmp_path: Path) -> None:
    settings = tmp_path / "mypy.ini"
    settings.write_text(configuration)
    # The cache stays from run to run: without one mypy reads the library and SQLAlchemy first.
    cache = ROOT / ".mypy_cache" / f"user_code_{name}"
    command = [sys.executable, "-m", "mypy", f"--config-file={settings}", f"--cache-dir={cache}", "--follow-imports=silent"]
    done = subprocess.run([*command, str(MISTAKES)], cwd=ROOT, capture_output=True, text=True, check=False)

    found = sorted({int(line) for line in re.findall(r"mistakes\.py:(\d+): error: ", done.stdout)})
    assert found == wrong, done.stdout + done.stderr
    assert len(found) >= 15
