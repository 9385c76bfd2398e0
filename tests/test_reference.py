"""The reference in docs/reference has every public name, once, and each of them has a docstring to show.

`make docs` (tests/test_site.py) checks the other direction: a name that does not exist fails the build.
"""

import importlib
import inspect
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"

PUBLIC = ("carafe", "carafe.web", "carafe.dashboard", "carafe.testing", "carafe.django", "carafe.django.testing")
"""The packages whose names are public (`__all__`)."""


def documented() -> list[str]:
    """The names that the pages show, as they are written there."""
    return [
        name
        for page in sorted(REFERENCE.glob("*.md"))
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]


def public() -> list[str]:
    return [f"{package}.{name}" for package in PUBLIC for name in importlib.import_module(package).__all__]


def test_every_public_name_is_on_a_page_and_nothing_else_is() -> None:
    assert sorted(documented()) == sorted(public())


@pytest.mark.parametrize("name", public())
def test_a_public_class_or_function_has_a_docstring(name: str) -> None:
    package, _, member = name.rpartition(".")
    what = getattr(importlib.import_module(package), member)
    if inspect.isclass(what) or inspect.isfunction(what):
        assert "__doc__" in vars(what) if inspect.isclass(what) else what.__doc__, name
        assert inspect.getdoc(what), name
