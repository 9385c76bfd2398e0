"""Each application of examples/ is started by its own command, on real servers, and does what its README says: every command
is typed as it stands there, and prints what stands below it. The last of them show the end of a job.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from carafe.cli.first_application import FILES
from carafe.testing.databases import Databases
from tests.cli.conftest import bare_environment
from tests.cli.running import Running, started
from tests.examples.readme import Step, start_of, steps_of
from tests.forked import CARAFE
from tests.programs import programs
from tests.projects import EXAMPLES
from tests.waiting import eventually

pytestmark = pytest.mark.process

ROOT = EXAMPLES.parent

ELSEWHERE = {"django": ROOT / "tests" / "django", "flask": ROOT / "tests" / "wsgi"}
"""Examples that have tests of their own, since `carafe dev` does not start them."""

ALL = sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir() and folder.name != "__pycache__")

NAMES = [name for name in ALL if name not in ELSEWHERE]


@pytest.fixture(scope="module")
def own_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def environment(
    own_programs: Path, carafe_databases: Databases, carafe_redis_url: str, carafe_postgres: str
) -> Iterator[dict[str, str]]:
    """What a reader's shell has: our programs, and servers for `carafe` and for its pytest plugin."""
    urls = f"-o carafe_postgres_url={carafe_postgres} -o carafe_redis_url={carafe_redis_url}"
    with carafe_databases.fresh() as database_url:
        yield bare_environment() | {
            "PATH": f"{own_programs}:{os.environ['PATH']}",
            "DATABASE_URL": database_url,
            "REDIS_URL": carafe_redis_url,
            "PYTEST_ADDOPTS": f"-p no:cacheprovider -p no:schemathesis {urls}",
            **dict.fromkeys(("PORT", "DASHBOARD_PORT", "PROBE_PORT"), "0"),
        }


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("name", NAMES)
async def test_it_does_what_its_readme_says(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".carafe"))
    readme = folder / "README.md"
    (program, *arguments), assigned = start_of(readme)
    assert (program, arguments) == ("carafe", ["dev"])
    with started([*CARAFE, *arguments], folder=folder, environment=environment | assigned) as dev:
        dev.says("Ctrl-C stops everything")
        here = dev.says(r"web +http://(\S+)")[1]
        for step in steps_of(readme):
            await follow(step, folder, environment, here, dev)
        assert dev.end() == 0, dev.output


async def follow(step: Step, folder: Path, environment: dict[str, str], here: str, dev: Running) -> None:
    """Type a command, in `environment`, which keeps the shell's variables. Fails if it prints something else than the
    README says."""
    command = step.command.replace("localhost:8080", here)
    if step.variable is not None:
        command = f'{command}; echo "${step.variable}"'
    printed = ""

    def prints() -> bool:
        nonlocal printed
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        printed = done.stdout
        if step.variable is not None:
            environment[step.variable] = printed.strip()
            return re.fullmatch(r"[0-9a-f-]{36}\n", printed) is not None
        return step.shows(printed)

    try:
        assert await eventually(prints, within=30) if step.only_looks else prints()
    except AssertionError:
        raise AssertionError(f"$ {command}\n{printed}\n-- not:\n{step.shown}\n-- carafe dev:\n{dev.output}") from None


def test_every_example_is_in_both_indexes_and_is_run() -> None:
    assert [name for name, folder in ELSEWHERE.items() if name not in ALL or not list(folder.glob("test_*.py"))] == []
    for index, link in ((EXAMPLES / "README.md", "({})"), (ROOT / "docs" / "examples.md", "(../examples/{})")):
        assert [name for name in ALL if link.format(name) not in index.read_text()] == [], index


@pytest.mark.parametrize("name", NAMES)
def test_an_example_names_its_parts_as_a_first_application_does(name: str) -> None:
    own = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())
    package = own["project"]["name"]
    first = tomllib.loads(FILES["pyproject.toml"].replace("shop", package))
    expected = first["tool"]["carafe"]
    if not (EXAMPLES / name / package / "web.py").exists():
        del expected["web_application"]
    if (EXAMPLES / name / package / "migrations").exists():
        expected["migrations"] = [f"{package}.migrations"]
    assert own["tool"]["carafe"] == expected
    assert own["project"] == first["project"]


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_shows_what_its_commands_print(name: str) -> None:
    steps = list(steps_of(EXAMPLES / name / "README.md"))
    assert steps
    assert [step.command for step in steps if bool(step.shown) == bool(step.variable)] == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("result 168", "result   168\n", True),
        ("…\nstate dead\n…", "id     1\nstate  dead\nargs   {}\n", True),
        ("…\nresult 1", "result 12\n", False),
        ('{"order":1}', '{"order":2}', False),
        ("state dead", "state dead\nresult 1", False),
    ],
)
def test_what_a_readme_shows_is_compared(shown: str, printed: str, same: bool) -> None:
    assert Step("carafe jobs list", shown).shows(printed) is same
