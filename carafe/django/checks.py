"""Django's system check of the setting ``CARAFE`` (``manage.py check``)."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error

from carafe.django.configuration import faults


def check_settings(app_configs: Any = None, **_: Any) -> Sequence[CheckMessage]:
    """An error for each fault in ``CARAFE``, in the environment and in ``DATABASES``, as far as Carafe uses them."""
    return [Error(fault, id="carafe.E001", obj="settings.CARAFE") for fault in faults()]
