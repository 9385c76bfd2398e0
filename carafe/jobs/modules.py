"""Imports the modules that the settings name: those that declare jobs, everywhere, and those with handlers, in workers."""

import importlib
from collections.abc import Iterable

from carafe.jobs.hooks import seal


class ModuleNotUsable(ValueError):
    """A module that a setting names cannot be imported."""

    def __init__(self, setting: str, module: str, error: BaseException) -> None:
        super().__init__(f"{setting}: {module!r} cannot be imported: {type(error).__name__}: {error}")


def load_jobs(modules: Iterable[str]) -> None:
    """Import JOB_MODULES, whose import registers kinds and hooks. Raises `ModuleNotUsable`."""
    seal(None)
    _load("JOB_MODULES", modules)


def load_handlers(modules: Iterable[str]) -> None:
    """Import HANDLER_MODULES (a package with all its submodules). A hook registered by one is refused.

    Raises `ModuleNotUsable`.
    """
    seal("a module of HANDLER_MODULES")
    try:
        _load("HANDLER_MODULES", modules)
    finally:
        seal(None)


def _load(setting: str, modules: Iterable[str]) -> None:
    import pkgutil

    for name in modules:
        try:
            module = importlib.import_module(name)
            for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
                importlib.import_module(found.name)
        except Exception as error:
            raise ModuleNotUsable(setting, name, error) from error
