"""Finds and imports the modules that settings name: the application's, which the library does not know.

The commands find them in the current folder too, as those of celery and uvicorn do.
Guarantees: a command looks for modules in the current folder from the moment on at which it needs one of the application's.
Until then no file of this folder can take the place of a module of Python or of a library. All other processes look where
their own path says, and nowhere else.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

_folder: str | None = None


@contextmanager
def found_in(folder: str) -> Iterator[None]:
    """Within the block, the application's modules are found in `folder` first. Nothing is looked for there before one of the
    functions below is called."""
    global _folder
    before, _folder = _folder, folder
    try:
        yield
    finally:
        _folder = before


def import_named(name: str) -> ModuleType:
    """The module of the application that has this name. Raises what its import raises."""
    _look_in_the_folder()
    return importlib.import_module(name)


def find_named(name: str) -> ModuleSpec | None:
    """Where the module of the application that has this name is; None if there is none. Imports the packages that it is in.
    Raises what their import raises."""
    _look_in_the_folder()
    return importlib.util.find_spec(name)


def _look_in_the_folder() -> None:
    if _folder is not None and _folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, _folder)
