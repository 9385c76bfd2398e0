"""Makes the dashboard that has a port of its own, either in the web application's process or alone in another process.

If the web application has Carafe's API mounted, the dashboard uses its client; otherwise it makes a client of its own, and
runs the upkeep too (if the setting STEWARD is on), since such an application does not. It shows the pages that the
application has added with `add_page`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from carafe import Client
from carafe.dashboard.added_pages import pages_of
from carafe.dashboard.application import create_dashboard
from carafe.settings.settings import Settings
from carafe.web.installation import Installation
from carafe.web.lifespans import around


def dashboard_beside(application: Any, settings: Settings) -> FastAPI:
    """Returns the dashboard of an application that runs in this process. The dashboard must be stopped before the
    application, whose client it may use."""
    shared = _client_of(application)
    client = shared or Client.from_settings(settings)
    app = create_dashboard(settings, client, pages=pages_of(application), root_path=settings.dashboard_root_path)
    if shared is None:
        around(app, _upkeep(settings, client, "web"))
    return app


def dashboard_alone(application: Any, settings: Settings) -> FastAPI:
    """Returns the dashboard for a process that does not serve the application itself.

    While this dashboard is served, it runs the upkeep too, if the setting STEWARD is on.
    """
    client = _client_of(application) or Client.from_settings(settings)
    app = create_dashboard(settings, client, pages=pages_of(application), root_path=settings.dashboard_root_path)

    around(app, _upkeep(settings, client, "dashboard"))
    return app


def _upkeep(settings: Settings, client: Client, role: str) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """A lifespan that hosts a steward on the client's connections, and closes the client at its end."""

    @asynccontextmanager
    async def upkeep(_: Any) -> AsyncIterator[None]:
        from carafe.steward.hosted import hosted

        try:
            async with hosted(settings, client.database, client.queue, role, client.acceptance):
                yield
        finally:
            await client.close()

    return upkeep


def _client_of(application: Any) -> Client | None:
    found = getattr(getattr(application, "state", None), "carafe", None)
    return found.client if isinstance(found, Installation) else None
