"""The files whose change makes `carafe dev --reload` start the application again.

These are sources and templates in the folders of the current folder, in the packages that the settings name, wherever they
are, and in the current folder itself, where `env.local` and pyproject.toml count too. Left out are folders whose name
begins with a dot, virtual environments, `node_modules` and tests.
Must never: follow a link to a folder, which may lead to the whole disk. A package that the settings name is watched where it
is, also if a link led to it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from carafe.named_modules import find_named
from carafe.settings.settings import Settings
from carafe.settings.sources import ENV_FILE, PROJECT_FILE

SUFFIXES = frozenset({".py", ".sql", ".html", ".jinja", ".jinja2", ".j2"})
"""How the names of sources and templates end. Data files are not among them: an application may write them as it runs."""


class Sources:
    """The files that count for an application. Imports nothing, but finds the packages of the settings."""

    def __init__(self, settings: Settings, here: Path) -> None:
        """`here` is the current folder, without links in its path."""
        self.here = here
        found = {path for path in here.iterdir() if _is_real_folder(path) and not _left_out(path)}
        found.update(_packages(_named(settings)))
        self._roots = [path for path in found if not any(path.is_relative_to(other) for other in found - {path})]
        whole, alone = _without_links(self._roots)
        self.folders = sorted(whole)
        """The folders to watch with everything in them. None has a link to a folder in it, which would be followed."""
        self.alone = sorted({here, *alone})
        """The folders to watch without the folders in them."""

    def count(self, path: Path) -> bool:
        """Whether a change of this file counts."""
        if path.parent == self.here:
            return path.suffix in SUFFIXES or path.name in (ENV_FILE, PROJECT_FILE)
        below = next((path.relative_to(folder) for folder in self._roots if path.is_relative_to(folder)), None)
        return below is not None and path.suffix in SUFFIXES and not any(map(_hidden, below.parts))


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _without_links(roots: Iterable[Path]) -> tuple[set[Path], set[Path]]:
    """Divides the folders of these trees: those to watch with everything in them, and those to watch alone, because a link
    to a folder is somewhere in them."""
    whole, alone = set[Path](), set[Path]()
    for root in roots:
        linked = _with_links(root)
        above = {step for folder in linked for step in (folder, *folder.parents) if step.is_relative_to(root)}
        alone |= {folder for folder in above if not any(map(_hidden, folder.relative_to(root).parts))}
        whole |= {root} - above
    for folder in alone:
        whole |= {path for path in _listed(folder) if _is_real_folder(path) and not _hidden(path.name)} - alone
    return whole, alone


def _with_links(root: Path) -> Iterator[Path]:
    """The folders of a tree in which there is a link to a folder."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        below = [path for path in _listed(folder) if path.is_dir()]
        waiting += [path for path in below if not path.is_symlink()]
        if any(path.is_symlink() for path in below):
            yield folder


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []  # it is not ours to read, or has just been deleted


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "node_modules")


def _left_out(folder: Path) -> bool:
    return _hidden(folder.name) or folder.name == "tests" or (folder / "pyvenv.cfg").exists()


def _named(settings: Settings) -> Iterator[str]:
    yield from (*settings.job_modules, *settings.handler_modules, *settings.migrations)
    yield from (settings.web_application, settings.worker_application)


def _packages(names: Iterable[str]) -> Iterator[Path]:
    for name in {name.partition(":")[0].partition(".")[0] for name in names}:
        try:
            spec = find_named(name)
        except (ImportError, ValueError):
            continue  # the start says what is wrong with it
        for location in spec.submodule_search_locations or () if spec else ():
            if "site-packages" not in Path(location).parts:  # nobody edits what is installed
                yield Path(location).resolve()
