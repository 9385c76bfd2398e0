"""An environment of its own for each peer, made at first use under `.peers/` from the pinned requirements in peers/NAME.

Guarantees: an environment is used only when all of its requirements were installed; it is rebuilt when they change.
A peer that cannot be installed is reported with the reason, never guessed at.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER / ".peers"
_INSTALL_DEADLINE = 300  # seconds


class PeerUnavailable(Exception):
    """A peer that cannot be installed or run here; the text is the reason shown in the table."""


def programs(peer: str | None, *, install: bool = True) -> Path:
    """The folder of a peer's programs (`python` among them), installed now if need be; None is this environment's own.

    Without `install`, a peer that is a dependency of Carafe's comes from this environment, whatever its version, unless it
    has one of its own already. Raises `PeerUnavailable`.
    """
    if peer is None:
        return Path(sys.executable).parent
    requirements = FOLDER / "peers" / peer / "requirements.txt"
    home = ENVIRONMENTS / peer
    stamp = home / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        if not install:
            if _is_here(peer):
                return Path(sys.executable).parent
            raise PeerUnavailable("not installed, and nothing was to be")
        print(f"  installing {peer} into {home.relative_to(FOLDER.parent)}", file=sys.stderr, flush=True)
        _install(requirements, home)
        stamp.write_text(wanted)
    return home / "bin"


def _is_here(peer: str) -> bool:
    try:
        distribution(peer)
    except PackageNotFoundError:
        return False
    return True


def _install(requirements: Path, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    _run([_python(requirements), "-m", "venv", str(home)])
    _run([str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_DEADLINE)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        raise PeerUnavailable(f"not installable here: {said[-1] if said else error}") from error
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"not installed within {_INSTALL_DEADLINE} s") from error


def _python(requirements: Path) -> str:
    """This interpreter, or, for a peer that says `# python: >=3.N`, the oldest one found that is new enough."""
    least = next((line for line in requirements.read_text().splitlines() if line.startswith("# python: >=3.")), None)
    if least is None:
        return sys.executable
    minor = int(least.removeprefix("# python: >=3."))
    if sys.version_info >= (3, minor):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for newer in range(minor, minor + 6):
        found = shutil.which(f"python3.{newer}")
        for candidate in ([found] if found else []) + [str(path) for path in pyenv.glob(f"3.{newer}.*/bin/python")]:
            # A pyenv shim is on the path for versions that are not the active one, and fails.
            if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                return candidate
    raise PeerUnavailable(f"needs Python 3.{minor} or newer, and none was found on the path")
