"""Whether changed Python files compile, before `carafe dev --reload` ends the application that runs.

Guarantees: nothing of the files is executed or imported, and nothing is written.
"""

import threading
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path


class Compiled:
    """Remembers which files do not compile. Callable from any thread."""

    def __init__(self) -> None:
        self._broken: set[Path] = set()
        self._lock = threading.Lock()

    def faults(self, changed: Iterable[Path]) -> dict[Path, str]:
        """Returns each file that does not compile now, with what Python says about it: of those that have changed, and of
        those that did not compile before. A file that was deleted is none of them."""
        with self._lock:
            files = self._broken | {file for file in changed if file.suffix == ".py"}
            found = {file: fault for file in sorted(files) if (fault := _fault(file)) is not None}
            self._broken = set(found)
        return found


def _fault(file: Path) -> str | None:
    try:
        source = file.read_bytes()
    except OSError:
        return None  # the start says what is wrong with it
    try:
        with warnings.catch_warnings(action="ignore"):  # the start shows them
            compile(source, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # all that it raises for odd sources
        return "".join(traceback.format_exception_only(error)).rstrip()
    return None
