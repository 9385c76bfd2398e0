"""The folder in which `env.local` and pyproject.toml are looked for: the current one, except in a test session.

A test session has one folder for both, pytest's root, no matter in which folder pytest was started. Guarantees: a test that
changes its folder reads the files of that folder. Must never: import anything but the standard library, since every pytest
run on the machine imports this module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_instead: dict[Path, Path] = {}


def folder() -> Path:
    """Returns the folder with the files that this process reads its settings from."""
    if not _instead:
        return Path()
    try:
        return _instead.get(Path.cwd(), Path())
    except FileNotFoundError:  # the current folder was deleted
        return Path()


@contextmanager
def read_instead(started: Path, root: Path) -> Iterator[None]:
    """While the block runs, the files are those of `root` wherever they would be those of `started`."""
    before = _instead.get(started)
    _instead[started] = root
    try:
        yield
    finally:
        if before is None:
            del _instead[started]
        else:
            _instead[started] = before
