"""Everything that users need is imported from a few public modules, under one name each. The sample application and the docs
do so."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import carafe

ROOT = Path(__file__).parent.parent

PUBLIC = {
    "carafe",
    "carafe.testing",
    "carafe.web",
    "carafe.web.openapi",
    "carafe.dashboard",
    "carafe.tracing",
    "carafe.django",
    "carafe.django.testing",
}
"""Modules that applications import from. A Celery application is `carafe.engine.application:app`, by name."""

SOURCES = sorted(path for folder in ("app", "briefings", "worker") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_every_public_name_is_there_and_stands_in_one_list() -> None:
    tree = ast.parse((ROOT / "carafe" / "__init__.py").read_text())
    typed = [
        (name.name, found.module)
        for node in tree.body
        if isinstance(node, ast.If)
        for found in node.body
        if isinstance(found, ast.ImportFrom)
        for name in found.names
    ]

    assert dict(typed) == carafe._HOME  # what type checkers see is what is imported
    assert sorted(carafe._HOME) == sorted(carafe.__all__)
    for name in carafe.__all__:
        home = importlib.import_module(carafe._HOME[name])
        assert getattr(carafe, name) is getattr(home, name)
        assert getattr(getattr(carafe, name), "__module__", None) in (carafe._HOME[name], "carafe.errors"), name


def test_importing_it_imports_nothing_until_a_name_is_used() -> None:
    program = "import sys, carafe; print(sorted(name for name in sys.modules if name.startswith('carafe.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_refused_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'carafe' has no attribute 'Jobs'"):
        carafe.Jobs  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_sample_application_imports_from_public_places(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "carafe"):
            continue
        if node.module == "carafe.engine" and path.name == "__init__.py":
            continue  # the Celery application itself
        assert node.module in PUBLIC, f"{path}:{node.lineno} imports from {node.module}"
        offered = importlib.import_module(node.module)
        for name in node.names:
            assert name.name in getattr(offered, "__all__", dir(offered)), f"{path}:{node.lineno} imports {name.name}"


def test_the_documentation_imports_from_public_places() -> None:
    found = [
        (page.relative_to(ROOT).as_posix(), module, name.strip())
        for page in PAGES
        for module, names in re.findall(r"^\s*from (carafe[\w.]*) import ([\w, ]+)$", page.read_text(), re.MULTILINE)
        for name in names.split(",")
    ]

    assert len(found) > 10
    for page, module, name in found:
        assert module in PUBLIC, f"{page} imports from {module}"
        offered = importlib.import_module(module)
        assert name in getattr(offered, "__all__", ()) or hasattr(offered, name), f"{page} imports {name} from {module}"
