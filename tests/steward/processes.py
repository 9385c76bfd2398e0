"""A process that does nothing, but prints its own incarnation."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os
os.environ.pop("POD_UID", None)
from carafe.process.incarnation import incarnation
print(incarnation(), flush=True)
input()
"""


class Child:
    """A child process of the test's; ended at the end of the block."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.incarnation = self._process.stdout.readline().strip()
        assert self.incarnation
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL. Until `reap` it is a zombie."""
        self._process.kill()

    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has asked how."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def reap(self) -> None:
        """Wait for its end; then there is no such process."""
        self._process.wait()
