"""The worker process of the briefing service: ``celery -A worker worker``, or ``carafe serve --worker``.

Handlers live in `worker.handlers` (HANDLER_MODULES). A team with its own application puts its own folder in this place.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # `worker.app`, the Celery application, is made when asked for: it needs settings, which the handlers below do not.
    if name == "app":
        from carafe.engine import application

        return application.app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
