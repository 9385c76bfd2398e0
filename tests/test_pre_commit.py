"""The checks before a commit (.pre-commit-config.yaml): each of them runs, lets good files through and stops bad ones.

In a small repository of its own, whose `.venv` is the environment of this very test.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / ".pre-commit-config.yaml"

GOOD = {
    "good.py": '"""A module."""\n\nVALUE = 1\n',
    "good.yaml": "a: 1\n---\nb: !!python/name:os.path\n",
    "good.toml": "a = 1\n",
    ".github/workflows/ci.yml": (ROOT / ".github" / "workflows" / "ci.yml").read_text(),
    ".github/dependabot.yml": (ROOT / ".github" / "dependabot.yml").read_text(),
}

BAD = {
    "ruff": ("bad.py", "import os\n\nundefined_name\n"),
    "ruff-format": ("ugly.py", "VALUE   =   1\n"),
    # In pieces, since the same checks read this file.
    "codespell": ("misspelt.md", "to rec" + "ieve\n"),
    "words": ("private.md", "it is told " + "of\n"),
    "end-of-file": ("endless.md", "no newline"),
    "trailing-whitespace": ("trailing.md", "words   \n"),
    "yaml": ("bad.yaml", "a: [\n"),
    "toml": ("bad.toml", "a = \n"),
    "merge-conflict": ("merged.md", "<<<<<<< HEAD\n=======\n>>>>>>> other\n"),
    "large-files": ("large.bin", "x" * 1024 * 1025),
    "workflows": (".github/workflows/bad.yml", "on: push\njobs: {a: {}}\n"),
    "dependabot": (".github/dependabot.yml", "version: 3\n"),
}
"""For each hook, a file that it must stop."""


def hooks() -> list[str]:
    return [hook["id"] for repo in yaml.safe_load(CONFIG.read_text())["repos"] for hook in repo["hooks"]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(CONFIG, folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".ci").mkdir()
    for name in ("words.py", "words.txt"):
        shutil.copy(ROOT / ".ci" / name, folder / ".ci")
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".gitignore").write_text(".venv\n")
    # A repository in the midst of a merge: only then are its marks looked for.
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, env=clean(tmp_path))
    for name in ("MERGE_MSG", "MERGE_HEAD"):
        (folder / ".git" / name).touch()
    return folder


def clean(home: Path) -> dict[str, str]:
    """The environment, without what a hook of git that runs this may have set, and with a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"PRE_COMMIT_HOME": str(home / "cache"), "HOME": str(home), "PRE_COMMIT_COLOR": "never"}


def outcomes(repository: Path, files: dict[str, str]) -> tuple[dict[str, str], str]:
    """What each hook says of these files: Passed, Failed or Skipped; and all that was written."""
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = clean(repository.parent)
    subprocess.run(["git", "add", "--all"], cwd=repository, check=True, env=environment)
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    ran = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120, check=False)
    names = {hook["name"]: hook["id"] for repo in yaml.safe_load(CONFIG.read_text())["repos"] for hook in repo["hooks"]}
    found = re.findall(r"^(.+?)\.{3,}(?:\(.*\))?(Passed|Failed|Skipped)$", ran.stdout, re.MULTILINE)
    return {names[name]: outcome for name, outcome in found}, ran.stdout + ran.stderr


def test_good_files_pass_every_hook(repository: Path) -> None:
    said, output = outcomes(repository, GOOD)

    assert said == dict.fromkeys(hooks(), "Passed"), output


def test_every_hook_stops_what_it_is_for(repository: Path) -> None:
    said, output = outcomes(repository, GOOD | dict(BAD.values()))

    assert said == dict.fromkeys(hooks(), "Failed"), output


def test_every_hook_is_tried() -> None:
    assert set(hooks()) == set(BAD)


def test_nothing_is_downloaded() -> None:
    for repo in yaml.safe_load(CONFIG.read_text())["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system"
            assert hook["entry"].startswith(".venv/bin/")
