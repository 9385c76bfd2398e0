"""No text that a user sees names a file of this repository which the wheel does not contain."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "carafe"

OURS = re.compile(r"\b(?:docs/[\w-]+\.md|deploy/\w+|make (?:dev|servers|lint))\b")
"""Pages, manifests and targets that only a clone of the repository has."""


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The texts of a module that are not documentation of its code, each with its line."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def test_no_hint_sends_a_reader_to_a_file_that_the_wheel_lacks() -> None:
    found = [
        f"{path.relative_to(LIBRARY.parent)}:{line}: {name}"
        for path in sorted(LIBRARY.rglob("*.py"))
        for line, text in texts(path.read_text())
        for name in OURS.findall(text)
    ]
    assert found == []


def test_texts_are_told_from_documentation() -> None:
    source = """def f():\n    'docs/a.md has more'\n    return f'see docs/b.md, {1}'\n"""
    assert [name for _, text in texts(source) for name in OURS.findall(text)] == ["docs/b.md"]
