"""Decides which modules and migrations a test session uses: those of pytest's options, else those of Carafe's settings.

The settings are read in pytest's root folder, in whichever folder below it pytest was started: `env.local` and
pyproject.toml are there.
"""

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

from carafe.jobs.modules import load_handlers, load_jobs
from carafe.settings.settings import Settings, load_settings


def load_modules(job_modules: Sequence[str] | None, handler_modules: Sequence[str] | None, root: Path) -> None:
    """Import the modules with jobs and those with handlers. A parameter that is None means the modules that the settings
    name. Raises `ModuleNotUsable` if a module cannot be imported, and `SettingsError` if the settings are not valid."""
    load_jobs(_settings(root).job_modules if job_modules is None else job_modules)
    load_handlers(_settings(root).handler_modules if handler_modules is None else handler_modules)


def migrations(packages: Sequence[str] | None, root: Path) -> Sequence[str]:
    """Returns the packages with migrations: `packages` or, if that is None, those that the settings name. Raises
    `SettingsError` if the settings are not valid."""
    return _settings(root).migrations if packages is None else packages


def _settings(root: Path) -> Settings:
    with chdir(root):
        return load_settings()
