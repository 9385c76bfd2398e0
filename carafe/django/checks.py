"""Django's system checks of the setting ``CARAFE`` (``manage.py check``): its values, and the modules that it names.

Django runs them before many of its commands, so the modules with handlers, which may be heavy, are only looked for: a worker
finds the faults in them when it imports them.
"""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's own name
from django.core.exceptions import ImproperlyConfigured

from carafe.django.configuration import faults, load
from carafe.jobs.modules import ModuleNotUsable, load_jobs
from carafe.settings.settings import Settings
from carafe.settings.src_layout import not_installed

_SETTING = "settings.CARAFE"


def check_settings(app_configs: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """An error for each fault in ``CARAFE``, in the environment and in ``DATABASES``, as far as Carafe uses them; for each
    module of JOB_MODULES that cannot be imported; and for each of HANDLER_MODULES that is not there. A warning if
    JOB_MODULES is empty."""
    try:
        settings = load()
    except ImproperlyConfigured:
        return [Error(fault, id="carafe.E001", obj=_SETTING) for fault in faults()]
    return [*_jobs(settings), *_handlers(settings)]


def _jobs(settings: Settings) -> Iterator[CheckMessage]:
    if not settings.job_modules:
        hint = "Name the modules that declare your jobs: CARAFE = {'JOB_MODULES': ['shop.jobs'], …}"
        yield Warning("JOB_MODULES is empty: nothing can be enqueued", hint=hint, id="carafe.W001", obj=_SETTING)
    for module in settings.job_modules:
        try:
            load_jobs([module])
        except ModuleNotUsable as error:
            yield Error(str(error), id="carafe.E002", obj=_SETTING)


def _handlers(settings: Settings) -> Iterator[CheckMessage]:
    for module in settings.handler_modules:
        try:
            found = find_spec(module) is not None
        except Exception as error:  # importing the package of the module runs code of the project
            yield Error(str(ModuleNotUsable("HANDLER_MODULES", module, error)), id="carafe.E003", obj=_SETTING)
            continue
        if not found:
            text = f"HANDLER_MODULES: {module!r} cannot be found{not_installed(module)}"
            yield Error(text, id="carafe.E003", obj=_SETTING)
