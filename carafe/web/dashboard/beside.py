"""The dashboard on a port of its own: beside the web application in one process, or alone in another.

It acts with the application's own client and shows the pages that the application added (`add_page`), where the application
is FastAPI's with Carafe's API on it; else with a client of its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from carafe.jobs import Client
from carafe.settings import Settings
from carafe.web.dashboard.application import create_dashboard
from carafe.web.dashboard.mounting import pages_of
from carafe.web.installation import Installation
from carafe.web.lifespans import around


def dashboard_beside(application: Any, settings: Settings) -> FastAPI:
    """The dashboard of an application that runs in this process; it must end before the application does."""
    shared = _client_of(application)
    client = shared or Client.from_settings(settings)
    app = create_dashboard(settings, client, pages=pages_of(application), root_path=settings.dashboard_root_path)
    if shared is None:

        @asynccontextmanager
        async def owning(_: Any) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await client.close()

        around(app, owning)
    return app


def dashboard_alone(application: Any, settings: Settings) -> FastAPI:
    """The dashboard of an application that is not served here. It carries the upkeep too, where STEWARD says so."""
    client = _client_of(application) or Client.from_settings(settings)
    app = create_dashboard(settings, client, pages=pages_of(application), root_path=settings.dashboard_root_path)

    @asynccontextmanager
    async def upkeep(_: Any) -> AsyncIterator[None]:
        from carafe.steward.hosted import hosted

        try:
            async with hosted(settings, client.database, client.queue, "dashboard", client.acceptance):
                yield
        finally:
            await client.close()

    around(app, upkeep)
    return app


def _client_of(application: Any) -> Client | None:
    found = getattr(getattr(application, "state", None), "carafe", None)
    return found.client if isinstance(found, Installation) else None
