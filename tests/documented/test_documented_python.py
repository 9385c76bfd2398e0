"""Each Python example of README.md and docs/ is executed: its declarations are made and its module's statements run, and its
tests are run by pytest. What awaits something or needs servers is compiled; tests/typed has mypy check all of it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import bare_environment
from tests.documented.commands import PAGES, ROOT
from tests.documented.preludes import PRELUDES
from tests.documented.python_blocks import PythonBlock, blocks, fenced, program_of, written_to

MARKS = {"console", "ini", "json", "mermaid", "python", "sh", "sql", "toml", "yaml"}
"""How fenced blocks are marked. Python is `python`, so that none is overlooked."""

LIKE_PYTHON = r"^(from \w\S* import|import \w|async def|def|class) "

SETTINGS = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "STRIPE_KEY": "secret",
    "SETTINGS_CLASS": "",
}
"""What a reader's environment has. Nothing connects."""


def run(*command: str, folder: Path, **more: str) -> None:
    environment = bare_environment() | {"PYTHONPATH": f"{folder}:{ROOT}"} | more
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_example_is_executed(tmp_path: Path) -> None:
    modules = [path.stem for path, _ in written_to(tmp_path)]
    assert len(modules) == len(blocks()) > 30
    run("tests.documented.executing", *modules, folder=tmp_path, **SETTINGS)


def test_an_example_that_fails_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("from carafe import Job")
    (tmp_path / "wrong.py").write_text("from carafe import Jbo")
    with pytest.raises(AssertionError, match="cannot import name 'Jbo'"):
        run("tests.documented.executing", "good", "wrong", folder=tmp_path)


def test_the_tests_of_examples_pass(tmp_path: Path, carafe_postgres: str, carafe_redis: str) -> None:
    tests = [str(path) for path, program in written_to(tmp_path) if program.block.prelude.by_pytest]
    urls = f"-o carafe_postgres_url={carafe_postgres} -o carafe_redis_url={carafe_redis}"
    options = f"-p no:cacheprovider -p no:schemathesis --rootdir {tmp_path} {urls}"
    run("pytest", "-q", *tests, folder=tmp_path, PYTEST_ADDOPTS=options)


def test_every_prelude_is_that_of_one_example() -> None:
    found = blocks()
    assert [key for key in PRELUDES if len([block for block in found if block.is_named(*key)]) != 1] == []


def test_blocks_of_python_say_so() -> None:
    found = [(mark, text) for page in PAGES for mark, _, text in fenced(page)]
    assert {mark for mark, _ in found} - {""} <= MARKS
    assert [text for mark, text in found if not mark and re.search(LIKE_PYTHON, text, re.MULTILINE)] == []


def test_a_line_of_a_program_is_that_of_the_page() -> None:
    block = PythonBlock("README.md", 40, "from uuid import UUID\n\nclass A: ...\n")
    program = program_of(block)
    assert [program.place(number) for number, line in enumerate(program.text.splitlines(), 1) if "class A" in line] == [
        "README.md:42"
    ]
    assert os.path.basename(block.file) == "test_README_md_40.py"
