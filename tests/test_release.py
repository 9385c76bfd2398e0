"""A release: `make release` builds wheel and source distribution where everything that names the version agrees, and each of
them, installed into a fresh environment, has the command and runs a job."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import carafe
from tests.second_application.installation import ROOT, Environment, names_in

pytestmark = pytest.mark.process

JOB = """
import sys

from carafe import testing
from carafe import Job, SyncClient, SyncContext, handler


class Greet(Job, kind="release.greet"):
    name: str


@handler(Greet)
def greet(job: Greet, ctx: SyncContext) -> str:
    return f"Hello, {job.name}!"


with SyncClient.connect(database_url=sys.argv[1], redis_url=sys.argv[2]) as client, testing.inline(client):
    print(client.get(client.enqueue(Greet(name="Ada")).id).result)
"""


def declared() -> str:
    with open(ROOT / "pyproject.toml", "rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
        return version


def release(root: Path, out: Path, *version: str) -> "subprocess.CompletedProcess[str]":
    """What `make release` runs, with the files in `out`."""
    command = [str(root / ".ci" / "release"), sys.executable, *version]
    environment = os.environ | {"OUT": str(out)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "dist"
    built = release(ROOT, out, declared())
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def test_a_release_is_a_wheel_and_a_source_distribution(dist: Path) -> None:
    version = declared()

    assert {path.name for path in dist.iterdir()} == {
        f"carafe_jobs-{version}-py3-none-any.whl",
        f"carafe_jobs-{version}.tar.gz",
    }
    assert "carafe/py.typed" in names_in(next(dist.glob("*.whl")))


@pytest.mark.parametrize("form", ["*.whl", "*.tar.gz"])
def test_each_of_them_has_the_command_and_runs_a_job(
    dist: Path, form: str, tmp_path: Path, carafe_database_url: str, carafe_redis_url: str
) -> None:
    environment = Environment(tmp_path / "environment", next(dist.glob(form)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "job.py").write_text(JOB)

    where = environment.run("python", "-c", "import carafe; print(carafe.__file__)", folder=elsewhere, settings={}).strip()
    assert Path(where).is_relative_to(tmp_path), "the environment finds the repository"
    assert "serve" in environment.run("carafe", "--help", folder=elsewhere, settings={})
    said = environment.run("python", "job.py", carafe_database_url, carafe_redis_url, folder=elsewhere, settings={})
    assert said.strip() == "Hello, Ada!"


def test_everything_that_names_the_version_agrees() -> None:
    assert carafe.__version__ == declared()
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == declared()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What `make release` reads before it builds, to be changed."""
    root = tmp_path / "repository"
    (root / "carafe").mkdir(parents=True)
    (root / ".ci").mkdir()
    for path in (ROOT / "pyproject.toml", ROOT / "CHANGELOG.md", ROOT / ".ci" / "release", *(ROOT / "carafe").glob("*.py")):
        shutil.copy(path, root / path.relative_to(ROOT))
    return root


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("pyproject.toml", "pyproject.toml says 98.7.6"),
        ("carafe/*.py", "carafe.__version__ says 98.7.6"),
        ("CHANGELOG.md", "CHANGELOG.md has no section"),
    ],
)
def test_nothing_is_built_where_one_of_them_does_not(copy: Path, tmp_path: Path, file: str, said: str) -> None:
    for path in copy.glob(file):
        path.write_text(path.read_text().replace(f'"{declared()}"', '"98.7.6"').replace(f"[{declared()}]", "[98.7.6]"))

    refused = release(copy, tmp_path / "dist", declared())

    assert refused.returncode == 1
    assert said in refused.stderr
    assert not (tmp_path / "dist").exists()


def test_a_tag_that_names_another_version_builds_nothing(copy: Path, tmp_path: Path) -> None:
    assert release(copy, tmp_path / "dist", "98.7.6").returncode == 1
    assert not (tmp_path / "dist").exists()
