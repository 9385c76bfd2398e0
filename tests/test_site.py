"""The documentation as a site: the strict build, which a broken link or a page outside the navigation fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def build(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder that has `mkdocs.yml`. Not with --quiet, under which strict counts no warning."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of what the build reads, to be broken."""
    for name in ("mkdocs.yml", "docs"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    for path in ROOT.iterdir():
        if path.name not in ("docs", "mkdocs.yml"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def test_the_site_builds(tmp_path: Path) -> None:
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    index = (tmp_path / "index.html").read_text()
    assert "jobs.html" in index
    # A link to a test reads as its path, where the site cannot follow it.
    assert "<code>tests/jobs/test_enqueue.py</code>" in (tmp_path / "guarantees.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gone](no-such-page.md)", "no-such-page.md"),
        ("[gone](jobs.md#no-such-heading)", "no-such-heading"),
        ("[gone](../tests/no_such_test.py)", "no_such_test.py"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(broken: Path, tmp_path: Path, text: str, said: str) -> None:
    with open(broken / "docs" / "operations.md", "a") as page:
        page.write(f"\n{text}\n")
    built = build(broken, tmp_path / "site")
    assert built.returncode != 0
    assert said in built.stdout + built.stderr


def test_a_page_outside_the_navigation_fails_the_build(broken: Path, tmp_path: Path) -> None:
    (broken / "docs" / "forgotten.md").write_text("# Forgotten\n")
    built = build(broken, tmp_path / "site")
    assert built.returncode != 0
    assert "forgotten.md" in built.stdout + built.stderr
