"""Serves the dashboard under a path of an application, together with the pages that the application adds to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from carafe.dashboard.added_pages import pages_of
from carafe.dashboard.application import create_dashboard
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.security.access import Authenticate
from carafe.web.lifespans import around

if TYPE_CHECKING:
    from carafe import Client
    from carafe.settings.settings import Settings


def mount_dashboard(
    app: FastAPI,
    path: str,
    client: "Client",
    settings: "Settings",
    *,
    authenticate: Authenticate | None = None,
) -> Dashboard:
    """Serve the dashboard under `path` of `app`, such as ``/ops/jobs``. Returns the dashboard; it is closed when `app` ends.

    `authenticate` is a function, plain or async, that gets the request and returns its viewer: ``Viewer("ana",
    operates=True)``, or None for nobody. It may also raise `Refused`, for example with a Location header that leads to a
    sign-in page. Without `authenticate`, the settings decide who may look, as they do for a dashboard that has its own port.

    Set DASHBOARD=false if `carafe serve` should not also serve a dashboard on DASHBOARD_PORT.
    """
    dashboard_app = create_dashboard(settings, client, authenticate=authenticate, pages=pages_of(app))
    dashboard: Dashboard = dashboard_app.state.dashboard
    app.mount(path, dashboard_app, name="dashboard")

    @asynccontextmanager
    async def ending(_: Any) -> AsyncIterator[None]:
        # A mounted application is not notified when its server stops.
        try:
            yield
        finally:
            await dashboard.close()

    around(app, ending)
    return dashboard
