"""The application's modules are found in the current folder by commands that need them, and by nothing else."""

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import carafe
from carafe.named_modules import find_named, found_in, import_named

LIBRARY = Path(carafe.__file__).parent
ROOT = LIBRARY.parent

OTHERS = {
    "__init__.py": "our own names",
    "cli/init.py": "whether a name is taken; where it is does not matter",
    "dev/embedded.py": "the wheels of the servers",
    "dev/reload.py": "watchfiles",
    "django/checks.py": "whether handler modules are there",
    "settings/src_layout.py": "whether a module is in src/ and not installed",
    "engine/child.py": "what the worker names, in a process that begins in its folder",
}
"""The other modules of the library that import by name, and what."""


def command(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command as its script starts it: `-P` keeps Python from looking into the current folder by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "carafe", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize("arguments", [("--version",), ("version", "--json"), ("config", "--json"), ("init", "shop")])
def test_a_file_beside_the_command_takes_the_place_of_no_module(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    for name in ("json", "typing", "typer", "carafe", "structlog", "pydantic", "secrets", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\n")
    done = command(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("ran-*")) == []


@pytest.mark.process
def test_what_a_setting_names_is_found_beside_the_command(tmp_path: Path) -> None:
    (tmp_path / "trade.py").write_text(
        'from carafe import Job, Settings\n\n\nclass Sell(Job, kind="trade.sell"):\n    pass\n\n\nclass Own(Settings):\n'
        '    stall: str = "corner"\n'
    )
    (tmp_path / "pyproject.toml").write_text('[tool.carafe]\nsettings_class = "trade:Own"\njob_modules = ["trade"]\n')
    urls = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1/0"}
    shown = command(tmp_path, "kinds", **urls)
    assert "trade.sell" in shown.stdout, shown.stderr
    assert "STALL" in command(tmp_path, "config", "--markdown", **urls).stdout.upper()


def test_the_folder_counts_while_a_command_runs_and_from_the_first_module_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_there.py").touch()
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    before = [*sys.path]
    assert find_named("only_there") is None
    with found_in(str(tmp_path)):
        assert sys.path == before
        assert import_named("json") is sys.modules["json"]
        assert sys.path == [str(tmp_path), *before]
        assert find_named("only_there") is not None
    sys.path[:] = before
    assert find_named("only_there") is None


def test_every_other_import_by_name_is_known() -> None:
    found: Counter[str] = Counter()
    for file in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            named = node.func if isinstance(node, ast.Call) else None
            name = named.attr if isinstance(named, ast.Attribute) else named.id if isinstance(named, ast.Name) else ""
            if name in ("import_module", "find_spec", "__import__"):
                found[file.relative_to(LIBRARY).as_posix()] += 1
    assert found.pop("named_modules.py") == 2
    assert found.pop("store/revisions.py") == 1, "the library's own revisions"
    assert found == Counter(OTHERS.keys())
