"""The worker process of the briefing service: ``celery -A worker worker``, or ``carafe serve --worker``.

Its handlers are in `worker.handlers` (setting HANDLER_MODULES). A team replaces this folder with its own.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # `worker.app`, the Celery application, is made when asked for: it needs settings, which the handlers below do not.
    if name == "app":
        from carafe.engine import application

        return application.app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
