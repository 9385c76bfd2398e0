"""Which modules and migrations a test session uses: pytest's options, else Carafe's settings.

A default of the settings that stands for a folder which is not there (a library's own tests have none) counts as nothing.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from carafe.jobs.modules import load_handlers, load_jobs
from carafe.settings import Settings, load_settings


def load_modules(job_modules: Sequence[str] | None, handler_modules: Sequence[str] | None) -> None:
    """Import both kinds; None: as the settings say. Raises `ModuleNotUsable`, `SettingsError`."""
    load_jobs(_chosen(job_modules, "job_modules"))
    load_handlers(_chosen(handler_modules, "handler_modules"))


def migrations(packages: Sequence[str] | None) -> Sequence[str]:
    """The packages with migrations; None: as the settings say. Raises `SettingsError`."""
    return _chosen(packages, "migrations")


def _chosen(given: Sequence[str] | None, setting: str) -> Sequence[str]:
    if given is not None:
        return given
    default: tuple[str, ...] = Settings.model_fields[setting].default
    names: tuple[str, ...] = getattr(load_settings(), setting)
    if names == default:
        return [name for name in names if find_spec(name.partition(".")[0]) is not None]
    return names
