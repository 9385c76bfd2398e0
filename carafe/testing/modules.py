"""Decides which modules and migrations a test session uses: those of pytest's options, else those of Carafe's settings."""

from collections.abc import Sequence

from carafe.jobs.modules import load_handlers, load_jobs
from carafe.settings.settings import load_settings


def load_modules(job_modules: Sequence[str] | None, handler_modules: Sequence[str] | None) -> None:
    """Import the modules with jobs and those with handlers. A parameter that is None means the modules that the settings
    name. Raises `ModuleNotUsable` if a module cannot be imported, and `SettingsError` if the settings are not valid."""
    load_jobs(load_settings().job_modules if job_modules is None else job_modules)
    load_handlers(load_settings().handler_modules if handler_modules is None else handler_modules)


def migrations(packages: Sequence[str] | None) -> Sequence[str]:
    """Returns the packages with migrations: `packages` or, if that is None, those that the settings name. Raises
    `SettingsError` if the settings are not valid."""
    return load_settings().migrations if packages is None else packages
