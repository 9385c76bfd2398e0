"""The documentation as a site: the strict build, which a broken link or a page outside the navigation fails."""

import os
import re
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


WARNED_OF = {"[gone](no-such-page.md)": "no-such-page.md", "[gone](jobs.md#no-such-heading)": "no-such-heading"}
"""Links that lead nowhere, and what the build says of each in a warning: under strict, every one fails it."""

FORGOTTEN = "forgotten.md"
"""A page outside the navigation: a warning too."""

Built = subprocess.CompletedProcess[str]


def copied(folder: Path) -> Path:
    """A copy of what the build reads, to be broken."""
    for name in ("mkdocs.yml", "docs"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    for path in ROOT.iterdir():
        if path.name not in ("docs", "mkdocs.yml"):
            (folder / path.name).symlink_to(path)
    return folder


def write_links(folder: Path, *links: str) -> None:
    with open(folder / "docs" / "operations.md", "a") as page:
        page.writelines(f"\n{link}\n" for link in links)


@pytest.fixture(scope="module")
def warned(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One build of all that it warns of: it counts each by itself."""
    folder = copied(tmp_path_factory.mktemp("warned"))
    write_links(folder, *WARNED_OF)
    (folder / "docs" / FORGOTTEN).write_text("# Forgotten\n")
    return build(folder, folder / "site")


def warnings(built: Built) -> list[str]:
    said = built.stdout + built.stderr
    found = re.findall(r"^WARNING.*(?:\n  .*)*", said, re.MULTILINE)
    # Each of them alone fails the build.
    assert built.returncode != 0, said
    assert f"Aborted with {len(found)} warnings in strict mode" in said, said
    return found


def test_the_site_builds(tmp_path: Path) -> None:
    built = build(ROOT, tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    index = (tmp_path / "index.html").read_text()
    assert "jobs.html" in index
    # A link to a test reads as its path, where the site cannot follow it.
    assert "<code>tests/jobs/test_enqueue.py</code>" in (tmp_path / "guarantees.html").read_text()
    # The reference is made from docstrings.
    assert "idempotency_key" in (tmp_path / "reference" / "client.html").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [*WARNED_OF.items(), ("[gone](../tests/no_such_test.py)", "no_such_test.py")],
)
def test_a_link_that_leads_nowhere_fails_the_build(text: str, said: str, warned: Built, tmp_path: Path) -> None:
    if text in WARNED_OF:
        assert len([warning for warning in warnings(warned) if said in warning]) == 1, warned.stderr
    else:  # what the build itself ends at
        write_links(copied(tmp_path), text)
        built = build(tmp_path, tmp_path / "site")
        assert built.returncode != 0
        assert said in built.stdout + built.stderr


def test_a_page_outside_the_navigation_fails_the_build(warned: Built) -> None:
    assert len([warning for warning in warnings(warned) if FORGOTTEN in warning]) == 1, warned.stderr


def test_nothing_else_is_warned_of(warned: Built) -> None:
    assert len(warnings(warned)) == len(WARNED_OF) + 1, warned.stderr
