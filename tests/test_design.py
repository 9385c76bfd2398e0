"""The rules that code and tests cite by number are decision records in docs/design/: every citation leads to one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DESIGN = ROOT / "docs" / "design"
INDEX = DESIGN / "index.md"

FOLDERS = ("carafe", "app", "worker", "briefings", "benchmarks", "chaos", "tests", "deploy")
"""Where rules are cited, beside the files at the root."""

SECTIONS = ["Context", "Decision", "Consequences", "How it is tested"]

# "DESIGN.md rule 5", "docs/design rules 7 and 9", "DESIGN.md, Kubernetes" (a heading of the index).
_NUMBERS = r"rules? (?P<numbers>\d+(?:(?:, | and |, and )\d+)*)"
_CITED = re.compile(rf"(?:DESIGN\.md|docs/design/?(?=,? rules? \d))(?:,? {_NUMBERS})?(?:, (?P<heading>[A-Z]\w+))?")
_ROW = re.compile(r"^\| \[(?P<number>\d+)\. [^]]+\]\((?P<file>[^)]+)\)", re.MULTILINE)


def cited(text: str) -> Iterator[str]:
    """What each citation in a text names: a number, a heading, or nothing ("")."""
    for match in _CITED.finditer(text):
        yield from re.findall(r"\d+", match["numbers"]) if match["numbers"] else [match["heading"] or ""]


def rules() -> dict[str, Path]:
    """The record of each rule, by its number, as the index lists them."""
    return {row["number"]: DESIGN / row["file"] for row in _ROW.finditer(INDEX.read_text())}


def sources() -> Iterator[Path]:
    """The files that may cite a rule."""
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".yaml", ".md"))
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in (".md", ".yml", ".toml"))


def unresolved(text: str) -> list[str]:
    """The citations that lead nowhere."""
    headings = set(re.findall(r"^## (.+)$", INDEX.read_text(), re.MULTILINE))
    return [name for name in cited(text) if name not in rules() and name not in headings]


def test_every_citation_leads_to_a_rule() -> None:
    here = Path(__file__)
    found = {path: text for path in sources() if path != here and any(cited(text := path.read_text()))}

    assert found, "nothing cites a rule any more: is the pattern still right?"
    assert {path.relative_to(ROOT).as_posix(): names for path, text in found.items() if (names := unresolved(text))} == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(DESIGN.md rule 99)", ["99"]),
        ("(DESIGN.md rules 7 and 98)", ["98"]),
        ("docs/design rule 97", ["97"]),
        ("(DESIGN.md, Nowhere)", ["Nowhere"]),
        ("(see DESIGN.md)", [""]),
        ("(DESIGN.md rules 7 and 9), (docs/design rule 14), (DESIGN.md, Kubernetes), records in docs/design/", []),
    ],
)
def test_a_citation_that_leads_nowhere_is_found(text: str, names: list[str]) -> None:
    assert unresolved(text) == names


def test_the_rules_are_numbered_without_a_gap() -> None:
    assert list(rules()) == [str(number) for number in range(1, len(rules()) + 1)]


def test_a_record_carries_its_number_and_the_index_lists_every_record() -> None:
    for number, path in rules().items():
        assert path.read_text().startswith(f"# {number}. "), path.name
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text()))
    assert listed == {path.name for path in DESIGN.glob("*.md")} - {"index.md"}


def test_every_record_has_its_parts_and_names_a_test() -> None:
    for path in DESIGN.glob("*.md"):
        if path == INDEX:
            continue
        text = path.read_text()
        assert re.search(r"^Status: \S", text, re.MULTILINE), path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS, path.name
        tested = text.partition("## How it is tested")[2]
        targets = [target for target in re.findall(r"\]\(([^)#]+)", tested) if target.startswith("../../tests")]
        assert targets, path.name
        assert all((DESIGN / target).exists() for target in targets), path.name
