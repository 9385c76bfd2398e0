"""Decides which modules and migrations a test session uses: those of pytest's options, else those of Carafe's settings.

A setting that was not changed is ignored if the package that its default names does not exist, as in the tests of a library.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from carafe.jobs.modules import load_handlers, load_jobs
from carafe.settings.settings import Settings, load_settings


def load_modules(job_modules: Sequence[str] | None, handler_modules: Sequence[str] | None) -> None:
    """Import the modules with jobs and those with handlers. A parameter that is None means the modules that the settings
    name. Raises `ModuleNotUsable` if a module cannot be imported, and `SettingsError` if the settings are not valid."""
    load_jobs(_chosen(job_modules, "job_modules"))
    load_handlers(_chosen(handler_modules, "handler_modules"))


def migrations(packages: Sequence[str] | None) -> Sequence[str]:
    """Returns the packages with migrations: `packages` or, if that is None, those that the settings name. Raises
    `SettingsError` if the settings are not valid."""
    return _chosen(packages, "migrations")


def _chosen(given: Sequence[str] | None, setting: str) -> Sequence[str]:
    if given is not None:
        return given
    default: tuple[str, ...] = Settings.model_fields[setting].default
    names: tuple[str, ...] = getattr(load_settings(), setting)
    if names == default:
        return [name for name in names if find_spec(name.partition(".")[0]) is not None]
    return names
