"""A project of examples/, run as a real one: its commands, its servers, its workers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"

LONGEST = 120
"""Seconds after which a command counts as hanging."""


@dataclass(frozen=True)
class Project:
    """A project in a folder, with the variables of the environment that say where its servers are."""

    folder: Path
    database_url: str
    redis_url: str
    variables: Mapping[str, str]

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the project's processes."""
        own = {**self.variables, "PROBE_PORT": "0", "PYTHONPATH": str(self.folder), "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **own, **more}

    def run(self, *command: str, code: int = 0, **more: str) -> str:
        """What a command prints. Fails if it does not end with this exit code. `more` are variables of its environment."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def script(self, text: str, **more: str) -> str:
        """What a program prints that runs within the project."""
        return self.run(sys.executable, "-c", text, code=0, **more)

    @contextmanager
    def running(self, *command: str, output: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A process of the project, whose output goes to a file. It is ended after the block, and must end then."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(**more), stdout=file, stderr=subprocess.STDOUT
            )
        try:
            yield process
            process.terminate()
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
