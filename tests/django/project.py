"""The Django project of examples/django, run as a real one: its commands, its servers, its workers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(__file__).parents[2] / "examples" / "django"

LONGEST = 120
"""Seconds after which a command counts as hanging."""


@dataclass(frozen=True)
class Project:
    """The project on these servers. `more` has further variables of the environment."""

    database_url: str
    redis_url: str

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the project's processes."""
        parts = urlsplit(self.database_url)
        own = {
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGDATABASE": parts.path.strip("/"),
            "PGUSER": parts.username or "",
            "PGPASSWORD": parts.password or "",
            "REDIS_URL": self.redis_url,
            "PROBE_PORT": "0",
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "PYTHONPATH": str(FOLDER),
            # What a project's own environment may have: it names no database of this test.
            "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("CARAFE_")} | own | more

    def manage(self, *arguments: str, code: int = 0, **more: str) -> str:
        """What ``manage.py`` prints. Fails if it does not end with this exit code."""
        return self._run([sys.executable, "manage.py", *arguments], code, more)

    def script(self, text: str, **more: str) -> str:
        """What a program within the project prints, after ``django.setup()``."""
        return self._run([sys.executable, "-c", f"import django; django.setup()\n{text}"], 0, more)

    def _run(self, command: list[str], code: int, more: dict[str, str]) -> str:
        done = subprocess.run(
            command, cwd=FOLDER, env=self.environment(**more), capture_output=True, text=True, timeout=LONGEST, check=False
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    @contextmanager
    def running(self, *command: str, output: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A process of the project, whose output goes to a file. It is ended after the block."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=FOLDER, env=self.environment(**more), stdout=file, stderr=subprocess.STDOUT
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
