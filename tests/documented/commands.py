"""The commands of the documentation: the lines of its fenced blocks marked `sh` or `console`, and indented blocks in a
README."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "chaos" / "README.md",
    # Those of the other examples are typed by tests/examples.
    ROOT / "examples" / "django" / "README.md",
    ROOT / "examples" / "flask" / "README.md",
]

SHELLS = ("sh", "console")
"""How a block with commands is marked."""

STARTS = (
    "make",
    "carafe",
    "curl",
    "kubectl",
    "docker",
    "pip",
    "python",
    "celery",
    "pytest",
    "psql",
    "redis-cli",
    ".venv/bin/",
)
"""The beginnings of lines that are commands, in any block."""

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<marked>\w*)[^\n]*\n(?P<text>.*?)^ *```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line as a page shows it, without its comment."""

    text: str
    page: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def documented() -> list[Command]:
    """All of them, page by page."""
    found: list[Command] = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        text = page.read_text()
        for block in _BLOCK.finditer(text):
            if block["marked"] in SHELLS:
                found += [Command(line, name) for line in lines(block["text"], shown=block["marked"] == "console")]
        if page.parent.name in ("benchmarks", "chaos"):
            indented = re.findall(r"^    (\S.*?)(?: {3,}.*)?$", _BLOCK.sub("", text), re.MULTILINE)
            found += [Command(line, name) for line in indented if _starts(line)]
    return found


def unmarked() -> list[str]:
    """Lines that look like commands in blocks that do not say so: nobody would run them."""
    return [
        f"{page.relative_to(ROOT)}: {line.strip()}"
        for page in PAGES
        for block in _BLOCK.finditer(page.read_text())
        if block["marked"] not in SHELLS
        for line in block["text"].splitlines()
        if block["marked"] in ("", "bash", "shell", "text") and _starts(line.strip())
    ]


def _starts(line: str) -> bool:
    return any(re.match(rf"{re.escape(start)}(\s|$)" if start[-1].isalpha() else re.escape(start), line) for start in STARTS)


def lines(text: str, *, shown: bool = False) -> Iterator[str]:
    """The command lines of a block: continued ones as one, here-documents with their text, comments taken away.

    `shown`: commands begin with `$ `, and what follows them is what they print.
    """
    kept: list[str] = []
    until: str | None = None
    inside = not shown
    for line in text.splitlines():
        if until is None and not kept:
            inside = not shown or line.startswith("$ ")
            line = line.removeprefix("$ ") if shown else line
        if not inside:
            continue
        if until is None:
            line = without_comment("\n".join([*kept, line]) if kept and _open("\n".join(kept)) else line)
            if kept and _open("\n".join(kept)):
                kept = []
        kept.append(line)
        so_far = "\n".join(kept)
        if until is not None:
            if line.strip() == until:
                until = None
            else:
                continue
        elif document := re.search(r"<<\s*(\w+)\s*$", line):
            until = document[1]
            continue
        if line.endswith("\\") or _open(so_far):
            continue
        kept = []
        if so_far.strip():
            yield re.sub(r"\\\n\s*", "", so_far).strip()
    if kept:
        raise ValueError(f"a command has no end: {kept}")


def _open(text: str) -> bool:
    """Whether a quotation goes on in the next line."""
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
    return bool(quote)


def without_comment(line: str) -> str:
    """A line up to the `#` that begins a comment."""
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()
