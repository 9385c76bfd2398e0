"""Every link from docs/guarantees.md to a test leads to a test that exists. The check only reads the files."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "guarantees.md"
INVARIANTS = "chaos/invariants.py"

# A promise opens with its number, as DESIGN's rules do; what surrounds them is prose.
_PROMISE = re.compile(r"^## \d+\. (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#]+\.py)\)")


def promises(text: str) -> dict[str, str]:
    """The text of each promise, by its title."""
    parts = _PROMISE.split(text.partition("\n## What may happen")[0])
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def links(text: str) -> list[tuple[str, str]]:
    """(path from the root, function) for each link to a Python file; a link's text is the function, with spaces."""
    found = []
    for words, target in _LINK.findall(text):
        path = (DOCUMENT.parent / target).resolve().relative_to(ROOT).as_posix()
        name = "_".join(words.split())
        found.append((path, f"test_{name}" if path.startswith("tests/") else name))
    return found


@cache
def functions(path: str) -> frozenset[str]:
    """The functions of a file, in classes too, without importing it; none when there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def invariants() -> set[str]:
    """The functions that the chaos suite registers as invariants."""
    tree = ast.parse((ROOT / INVARIANTS).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "_invariant" for mark in node.decorator_list)
    }


def missing(text: str) -> list[str]:
    """The links that lead to no function."""
    return [f"{path}::{name}" for path, name in links(text) if name not in functions(path)]


def unproven(text: str) -> list[str]:
    """The promises without a test."""
    return [
        title for title, block in promises(text).items() if not any(path.startswith("tests/") for path, _ in links(block))
    ]


def unnamed(text: str) -> set[str]:
    """The invariants that no promise names."""
    named = {name for block in promises(text).values() for path, name in links(block) if path == INVARIANTS}
    return invariants() - named


def test_every_link_leads_to_a_function_that_exists() -> None:
    text = DOCUMENT.read_text()

    assert links(text)
    assert missing(text) == []


def test_every_promise_names_a_test() -> None:
    text = DOCUMENT.read_text()

    assert len(promises(text)) > 1
    assert unproven(text) == []


def test_every_invariant_of_the_chaos_suite_stands_for_a_promise() -> None:
    assert invariants()
    assert unnamed(DOCUMENT.read_text()) == set()


@pytest.mark.parametrize(
    "link",
    [
        "[a worker that was never written](test_guarantees.py)",
        "[a worker is killed and all is done](../tests/test_nowhere.py)",
        "[every job has two ends](../chaos/invariants.py)",
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert len(missing(f"## 1. A promise\n\n{link}\n")) == 1


def test_a_promise_without_a_test_is_found() -> None:
    assert unproven("## 1. A promise\n\n[every job has one end](../chaos/invariants.py)\n") == ["A promise"]


def test_an_invariant_that_nobody_names_is_found() -> None:
    named = "## 1. A promise\n\n[every job has one end](../chaos/invariants.py)\n"

    assert unnamed(named) == invariants() - {"every_job_has_one_end"}
