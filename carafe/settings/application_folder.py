"""Whether a command was started in the folder of the application, and where that folder is instead.

In a folder without the application's pyproject.toml the settings are empty, and valid. This module finds the likely reason,
for commands that cannot do anything without an application. Must never: decide what a setting is.
"""

import os
from pathlib import Path

from carafe.named_files import read_named
from carafe.settings.folder import folder
from carafe.settings.settings import Settings, SettingsError
from carafe.settings.sources import PROJECT_FILE

_OWN_WORKER = Settings.model_fields["worker_application"].default


def require_application(settings: Settings) -> None:
    """Raises SettingsError if the settings name no part of an application from which a worker could get a handler."""
    named = settings.job_modules or settings.handler_modules or settings.worker_application != _OWN_WORKER
    if not named:
        raise SettingsError([no_handlers()])


def no_handlers() -> str:
    """What to do when HANDLER_MODULES is empty, and so no job could run."""
    return application_elsewhere() or (
        "HANDLER_MODULES is empty: name the modules with your handlers, in [tool.carafe] of pyproject.toml for instance; "
        "`carafe init NAME` writes an application that has them"
    )


def application_elsewhere() -> str | None:
    """Says where to run the command, if the application's settings are those of another folder or of a Django project.
    Returns None if this folder, or a variable of the environment, names the application's modules."""
    if any(os.environ.get(name, "").strip() for name in ("JOB_MODULES", "HANDLER_MODULES")):
        return None
    here = folder().absolute()
    if _describes_application(here):
        return None
    for parent in here.parents:
        if _describes_application(parent):
            return f"no {PROJECT_FILE} with [tool.carafe] in {here}; there is one in {parent}: run the command there"
    for place in (here, *here.parents):
        if (place / "manage.py").is_file():
            there = "" if place == here else f" in {place}"
            return f"the settings of a Django project are read by its manage.py: run `python manage.py carafe`{there}"
    return None


def _describes_application(place: Path) -> bool:
    import tomllib  # late: a worker seldom needs it

    try:
        tools = tomllib.loads(read_named(place / PROJECT_FILE)).get("tool", {})
        return "carafe" in tools
    except (OSError, ValueError, TypeError, AttributeError):
        return False
