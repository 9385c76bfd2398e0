"""The dashboard under a path of another FastAPI application, and an application's own pages in the dashboard."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI

from carafe.web.dashboard.access import Authenticate
from carafe.web.dashboard.application import create_dashboard
from carafe.web.dashboard.dashboard import Dashboard
from carafe.web.lifespans import around

if TYPE_CHECKING:
    from carafe.jobs import Client
    from carafe.settings import Settings


@dataclass(frozen=True, slots=True)
class AddedPage:
    """A page that an application adds to its dashboard (see `Dashboard.add_page`)."""

    label: str
    router: APIRouter
    path: str
    order: int = 100
    templates: Path | None = None


def add_page(
    app: FastAPI, label: str, router: APIRouter, *, path: str, order: int = 100, templates: Path | None = None
) -> None:
    """Add a page to the dashboard that `carafe serve` and `carafe dev` run beside this application, and `carafe serve
    --dashboard` alone: `label` in the navigation leads to `path`, one of `router`'s routes; `templates` is the folder of its
    templates."""
    pages = getattr(app.state, "carafe_pages", ())
    app.state.carafe_pages = (*pages, AddedPage(label, router, path, order, templates))


def pages_of(application: Any) -> Iterable[AddedPage]:
    """The pages that an application (any ASGI application) has added."""
    found: Iterable[AddedPage] = getattr(getattr(application, "state", None), "carafe_pages", ())
    return found


def mount_dashboard(
    app: FastAPI,
    path: str,
    client: "Client",
    settings: "Settings",
    *,
    authenticate: Authenticate | None = None,
) -> Dashboard:
    """Serve the dashboard under `path` of `app`, such as ``/ops/jobs``; it ends with `app`.

    `authenticate` says who looks: a function of the request, plain or async, that returns a `Viewer`
    (``Viewer("ana", operates=True)``), or None for nobody, or raises `Refused` (with a Location header, say, to sign in
    elsewhere). Without it the settings decide, as on a port of its own. Set DASHBOARD=false where `carafe serve` should
    not open the port besides.
    """
    dashboard_app = create_dashboard(settings, client, authenticate=authenticate, pages=pages_of(app))
    dashboard: Dashboard = dashboard_app.state.dashboard
    app.mount(path, dashboard_app, name="dashboard")

    @asynccontextmanager
    async def ending(_: Any) -> AsyncIterator[None]:
        # A mounted application is not told of its server's end.
        try:
            yield
        finally:
            await dashboard.close()

    around(app, ending)
    return dashboard
