"""The wheel of this repository in an environment of its own, beside the dependencies that are installed already.

No network: the environment finds the dependencies of the running interpreter by path, and the repository not at all
(a path file inside a folder that a path file names is not read, so an editable install does not leak in).
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

from carafe.settings.settings import Settings

ROOT = Path(__file__).parent.parent.parent


def build_wheel(folder: Path) -> Path:
    """The wheel, built in `folder` from the repository as it stands."""
    _run([*_pip(), "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)], folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def names_in(wheel: Path) -> list[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


class Environment:
    """A virtual environment with a wheel, or a source distribution; `run` and `start` execute its programs in a folder."""

    def __init__(self, folder: Path, distribution: Path) -> None:
        venv.create(folder, with_pip=False)
        self._programs = folder / "bin"
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        pip = [*_pip(), "--python", str(self._programs / "python")]
        offline = ["--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
        _run([*pip, "install", *offline, str(distribution)], folder)

    def run(self, program: str, *arguments: str, folder: Path, settings: dict[str, str]) -> str:
        """Run a program to its end; its output. Raises when it fails."""
        return _run([str(self._programs / program), *arguments], folder, settings)

    def start(
        self, program: str, *arguments: str, folder: Path, settings: dict[str, str], log: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a program; what it writes goes to `log`."""
        with open(log, "wb") as output:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                cwd=folder,
                env=_environment() | settings,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def _environment() -> dict[str, str]:
    """This process's environment without any setting of Carafe, and without the repository in its path."""
    names = {name.upper() for name in Settings.model_fields} | {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in names}


def _run(command: Sequence[str], folder: Path, settings: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment() | (settings or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
