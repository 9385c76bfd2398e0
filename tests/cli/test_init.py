"""`carafe init`: the files of a new application, the tutorial that explains them, and the names that it refuses.

tests/second_application runs the application that it writes.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from carafe.cli.first_application import FILES
from tests.cli.conftest import ROOT, Command

PAGE = (ROOT / "docs" / "first-application.md").read_text()


def test_the_tutorial_shows_the_files_as_they_are_written() -> None:
    shown = re.findall(r"^```(?:python|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    explained = {"pyproject.toml", "shop/jobs.py", "shop/handlers.py", "shop/web.py", "tests/test_shop.py"}
    assert sorted(shown) == sorted(FILES[name] for name in explained)
    assert [name for name in explained if f"`{name}`" not in PAGE] == []


def test_every_file_has_the_name_that_is_given(bare: Command, here: Path) -> None:
    answer = bare("init", "corner_1")
    assert answer.code == 0, answer.err
    assert "cd corner_1\n" in answer.out
    written = {
        path.relative_to(here / "corner_1").as_posix(): path.read_text() for path in here.rglob("*") if path.is_file()
    }
    assert written == {name.replace("shop", "corner_1"): text.replace("shop", "corner_1") for name, text in FILES.items()}
    assert "shop" not in "".join(written.values())
    assert bare("init", "another", "--json").json["files"][0] == "pyproject.toml"


def test_its_code_is_formatted_sorted_and_free_of_faults(bare: Command, here: Path) -> None:
    assert bare("init", "shop").code == 0
    for arguments in (["check", "--select", "E,F,I,UP,B,RET,PT"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--line-length", "120", "."]
        done = subprocess.run(command, cwd=here / "shop", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_existing_folder_is_left_as_it_is(bare: Command, here: Path) -> None:
    (here / "shop").mkdir()
    answer = bare("init", "shop")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: {here / 'shop'} exists already; choose another name, or another folder to start in\n"
    assert list((here / "shop").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-shop", "beginning with a letter, such as my_shop (got 'my-shop')"),
        ("Shop", "such as shop (got 'Shop')"),
        ("../shop", "such as shop (got '../shop')"),
        ("class", "'class' is a Python keyword"),
        ("None", "'None' is a Python keyword"),
        ("", "beginning with a letter (got '')"),
        ("json", "'json' is a package that Python finds already"),
        ("fastapi", "'fastapi' is a package that Python finds already"),
        ("a" * 65, "NAME must have at most 64 characters (got 65)"),
        ("a" * 300, "NAME must have at most 64 characters (got 300)"),
        ("conftest", "'conftest' is a module that pytest or Python imports by itself"),
        ("sitecustomize", "'sitecustomize' is a module that pytest or Python imports by itself"),
        ("usercustomize", "'usercustomize' is a module that pytest or Python imports by itself"),
        ("tests", "'tests' is a package that Python finds already"),
    ],
)
def test_a_name_that_cannot_be_a_package_is_refused(bare: Command, here: Path, name: str, says: str) -> None:
    answer = bare("init", name)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert list(here.iterdir()) == []
