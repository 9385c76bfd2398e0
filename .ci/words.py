"""The word list: finds phrases that make a reader stop (`.ci/words.txt`) in code, documentation and pages.

    python .ci/words.py [FILE …]      without files: everything that git tracks

Prints `file:line: phrase: what to write instead`, and exits with 1 when it found anything.
"""

import re
import subprocess
import sys
from bisect import bisect
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
READ = {".py", ".md", ".html", ".js", ".css", ".sql", ".yaml", ".yml", ".toml"}
# Migrations stay as they were released; the past and decisions as they were written.
LEFT_OUT = ("carafe/migrations/versions/", "CHANGELOG.md", "docs/design/")
# The text of a link to a test is the test's name, which the documentation does not choose.
LINK_TO_A_TEST = re.compile(r"\[[^\]]*\]\((?:\.\./)*tests/[^)]*\)")
# The beginning of a line in the middle of a paragraph or a comment.
INDENT = re.compile(r"\s*(?:(?:#|--|//|\*|>)\s+)?")


def rules() -> list[tuple[re.Pattern[str], str]]:
    """The patterns, and what to write instead. Raises `ValueError` for a line that has no ` => `."""
    found = []
    for line in (ROOT / ".ci" / "words.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, arrow, instead = line.partition(" => ")
            if not arrow:
                raise ValueError(f".ci/words.txt: {line!r} is not 'pattern => what to write instead'")
            found.append((re.compile(pattern, re.IGNORECASE), instead))
    return found


def phrases(lines: list[str], checks: list[tuple[re.Pattern[str], str]]) -> list[tuple[int, str, str]]:
    """Each phrase that a pattern finds: the number of the line in which it begins, the phrase, and what to write instead.

    The lines are read as one text, so that a phrase is found wherever a line ends in it.
    """
    texts = [INDENT.sub("", LINK_TO_A_TEST.sub("", line), count=1) for line in lines]
    begins = [0, *accumulate(len(text) + 1 for text in texts)]
    whole = " ".join(texts)
    return sorted(
        (bisect(begins, match.start()), match[0], instead)
        for pattern, instead in checks
        for match in pattern.finditer(whole)
    )


def tracked() -> list[str]:
    """Every file that git tracks, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def main(files: list[str]) -> int:
    """Check these files, or all; returns the exit code."""
    checks = rules()
    complaints = 0
    for name in files or tracked():
        path = ROOT / name
        if path.suffix not in READ or name.startswith(LEFT_OUT) or not path.is_file():
            continue
        for number, phrase, instead in phrases(path.read_text(encoding="utf-8").splitlines(), checks):
            sys.stdout.write(f"{name}:{number}: {phrase!r}: {instead}\n")
            complaints += 1
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
