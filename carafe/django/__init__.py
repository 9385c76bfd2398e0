"""Carafe in a Django project: ``INSTALLED_APPS = [..., "carafe.django"]`` and the dictionary ``CARAFE`` in the settings.

`enqueue` within ``transaction.atomic()`` stores the job in that transaction, on Django's own connection, and notifies the
workers after its commit. `client` has everything else. ``manage.py carafe …`` is the command `carafe`, with the project's
settings. `carafe.django.testing` is for the project's tests.

Guarantees: after a rollback there is neither a job nor a hint. Handlers run after ``django.setup()``, and no handler gets a
connection that has died. There are no Django models: ``makemigrations`` finds nothing here, and ``migrate`` applies Carafe's
own migrations. Must never: be imported by the rest of the library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carafe.django.enqueueing import DjangoClient, client, enqueue, enqueue_many

__all__ = ["DjangoClient", "client", "enqueue", "enqueue_many"]


def __getattr__(name: str) -> Any:
    # Django imports this package while it collects the applications: nothing may be imported before it is needed.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from carafe.django import enqueueing

    return getattr(enqueueing, name)
