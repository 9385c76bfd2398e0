"""What the README of an example has a reader do: start the application, then type commands and see what they print."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.documented.commands import without_comment

_BLOCK = re.compile(r"^```(?P<marked>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what it prints. In `shown`, `…` stands for any text, and the width of columns does not count."""

    command: str
    shown: str

    @property
    def variable(self) -> str | None:
        """The variable of the shell that keeps what the command prints, if there is one."""
        found = re.match(r"(\w+)=\$\(", self.command)
        return found[1] if found else None

    @property
    def only_looks(self) -> bool:
        """Whether the command changes nothing, so that a reader repeats it until it shows what the README shows."""
        asks = self.command.startswith("curl ") and not re.search(r" (-X|--json|-d)\b", self.command)
        return asks or re.match(r"carafe jobs (list|show)\b", self.command) is not None

    def shows(self, printed: str) -> bool:
        """Whether this is what the README shows."""
        pattern = re.escape(_narrow(self.shown)).replace("…", ".*?")
        return re.fullmatch(pattern, _narrow(printed), re.DOTALL) is not None


def _narrow(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def start_of(readme: Path) -> tuple[list[str], dict[str, str]]:
    """The words of the command that starts the application, without its assignments, and these."""
    (block,) = (found["text"] for found in _BLOCK.finditer(readme.read_text()) if found["marked"] == "sh")
    _, line = block.splitlines()  # pip install first
    words = shlex.split(without_comment(line))
    assigned = [word for word in words if re.match(r"[A-Z_]+=", word)]
    return words[len(assigned) :], dict(word.split("=", 1) for word in assigned)


def steps_of(readme: Path) -> Iterator[Step]:
    """The commands that follow, in their order."""
    for block in _BLOCK.finditer(readme.read_text()):
        if block["marked"] == "console":
            for said in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                command, _, shown = said.partition("\n")
                yield Step(command, shown)
