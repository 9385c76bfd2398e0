"""Imports the modules that the settings name: JOB_MODULES, with declarations of jobs, in every process, and HANDLER_MODULES,
with handlers, in workers."""

import importlib
from collections.abc import Iterable

from carafe.jobs.hooks import seal
from carafe.named_modules import import_named
from carafe.settings.src_layout import not_installed


class ModuleNotUsable(ValueError):
    """A module that a setting names cannot be imported."""

    def __init__(self, setting: str, module: str, error: BaseException) -> None:
        super().__init__(
            f"{setting}: {module!r} cannot be imported: {type(error).__name__}: {error}"
            f"{_place(error)}{not_installed(module)}"
        )


def _place(error: BaseException) -> str:
    """The file and line at which an import has failed, in brackets; empty where the error's own text has them, and where the
    module itself was not found."""
    import traceback

    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen importlib")
    ]
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename in (__file__, importlib.__file__):
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"


def load_jobs(modules: Iterable[str]) -> None:
    """Import the modules that JOB_MODULES names, which registers their kinds of jobs and their hooks. Raises
    `ModuleNotUsable` when a module cannot be imported."""
    seal(None)
    _load("JOB_MODULES", modules)


def load_handlers(modules: Iterable[str]) -> None:
    """Import the modules that HANDLER_MODULES names, and all submodules of those that are packages. They must not register
    hooks.

    Raises `ModuleNotUsable` when a module cannot be imported, or when it registers a hook.
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
            module = import_named(name)
            for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
                import_named(found.name)
        except Exception as error:
            raise ModuleNotUsable(setting, name, error) from error
