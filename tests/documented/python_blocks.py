"""The Python examples of the documentation as whole programs.

A block of a page takes for granted what the page, or the reader's application, has already. `tests/documented/preludes.py`
says what that is; here both are put together. In a program, declarations stand in the module. From the first other statement
on, a block may be the body of a function, which is compiled and type-checked and not called.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.documented.commands import PAGES, ROOT
from tests.documented.preludes import PRELUDES, Prelude
from tests.documented.shop import FILES

_BLOCK = re.compile(r"^ *```(?P<marked>\S*)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)

DECLARATIONS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

HEADER = '# mypy: disable-error-code="empty-body"\n'
"""`...` as a body stands for what the reader writes."""


@dataclass(frozen=True, slots=True)
class PythonBlock:
    """A block of a page that is marked `python`. `line` is that of its first line of code."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def prelude(self) -> Prelude:
        """What the block takes for granted."""
        found = [prelude for (page, beginning), prelude in PRELUDES.items() if self.is_named(page, beginning)]
        return found[0] if found else Prelude()

    def is_named(self, page: str, beginning: str) -> bool:
        """Whether an entry of `PRELUDES` means this block."""
        code = (line for line in self.text.splitlines() if line and not re.match(r"from |import |#", line))
        return page == self.page and next(code, "").startswith(beginning)

    @property
    def file(self) -> str:
        """The name of the program's file."""
        return re.sub(r"\W", "_", f"test_{self}") + ".py"


@dataclass(frozen=True, slots=True)
class Program:
    """A block as a program. `lines` has for each of its lines that of the page, or 0."""

    block: PythonBlock
    text: str
    lines: Sequence[int]

    def place(self, line: int) -> str:
        """Where a line of the program is: on the page, or in the prelude."""
        number = self.lines[line - 1] if line <= len(self.lines) else 0
        return f"{self.block.page}:{number}" if number else f"{self.block}, line {line} of its program"


def blocks() -> list[PythonBlock]:
    """All of them, page by page."""
    return [
        PythonBlock(str(page.relative_to(ROOT)), line, text)
        for page in PAGES
        for mark, line, text in fenced(page)
        if mark == "python"
    ]


def fenced(page: Path) -> Iterator[tuple[str, int, str]]:
    """The fenced blocks of a page: how each is marked, the line of its first line, and its text."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        yield block["marked"], text.count("\n", 0, block.start("text")) + 1, block["text"]


def program_of(block: PythonBlock) -> Program:
    """The block behind its prelude. Raises SyntaxError if it is not valid."""
    prelude = block.prelude
    written = HEADER + prelude.text
    text, lines = list(written.splitlines()), [0] * len(written.splitlines())
    inside = False
    for number, line in enumerate(block.text.splitlines()):
        if prelude.within and number == _first_statement(block.text) - 1:
            inside = True
            text.append(prelude.within)
            lines.append(0)
        text.append(f"    {line}" if inside and line else line)
        lines.append(block.line + number)
    if prelude.claims:
        text.append(f"    {prelude.claims}" if inside else prelude.claims)
    return Program(block, "\n".join(text) + "\n", lines)


def _first_statement(text: str) -> int:
    """The line of the first statement that declares nothing."""
    tree = compile(text, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return next(statement.lineno for statement in tree.body if not isinstance(statement, DECLARATIONS))


def written_to(folder: Path) -> Iterator[tuple[Path, Program]]:
    """Every program in a file of a folder, beside the package `shop` of which the pages speak."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for block in blocks():
        program = program_of(block)
        path = folder / block.file
        path.write_text(program.text)
        yield path, program
