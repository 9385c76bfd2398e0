"""The dashboard as an object: what its pages stand on, one for each application that shows it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from carafe.web.dashboard.shared import Shared
from carafe.web.large_bodies import LargeBodies

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Environment

    from carafe.database import Database
    from carafe.jobs import Client
    from carafe.readmodel.model import ReadModel
    from carafe.settings import Settings
    from carafe.web.dashboard.access import Access
    from carafe.web.dashboard.failed_logins import FailedLogins
    from carafe.web.dashboard.passwords import Passwords
    from carafe.web.dashboard.sessions import Keys
    from carafe.web.dashboard.snapshots import Snapshots
    from carafe.web.dashboard.streams import Streams


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation; those of a lower `order` come first."""

    label: str
    path: str
    order: int = 100

    def shown(self, path: str) -> "ShownPage":
        """As a template shows it while at `path`."""
        inside = path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))
        return ShownPage(self.label, self.path, self.order, inside)


@dataclass(frozen=True, slots=True)
class ShownPage:
    """An entry of the navigation on a page. `current`: it, or a page below it, is the one shown."""

    label: str
    path: str
    order: int
    current: bool


@dataclass
class Dashboard:
    """What pages stand on: `model` to read, `client` to act; the rest is the frame's.

    Made by `create_dashboard` or `mount_dashboard`; a request finds it by `DashboardOf`.
    """

    settings: "Settings"
    client: "Client"
    model: "ReadModel"
    access: "Access"
    keys: "Keys"
    passwords: "Passwords"
    failed_logins: "FailedLogins"
    snapshots: "Snapshots"
    streams: "Streams"
    templates: "Environment"
    application: "FastAPI"
    static_version: Callable[[], str]
    reading: "Database | None" = None
    clock: Callable[[], float] = time.time
    shared: Shared = field(default_factory=Shared)
    bodies: LargeBodies = field(default_factory=LargeBodies)
    _pages: list[Page] = field(default_factory=list)

    def nav(self) -> list[Page]:
        """The entries of the navigation, in order."""
        return sorted(self._pages, key=lambda page: page.order)

    def add_page(self, label: str, router: APIRouter, *, path: str, order: int = 100, templates: Path | None = None) -> None:
        """Add a page of an application's own (or several: `router` may hold more routes below `path`).

        `templates` is the folder of its templates; they may extend "base.html". Raises ValueError for a path that is taken.
        """
        from jinja2 import ChoiceLoader, FileSystemLoader

        if not path.startswith("/") or (path != "/" and path.endswith("/")):
            raise ValueError(f"path: must begin with a slash and not end with one (got {path!r})")
        self.add(Page(label, path, order), router)
        if templates is not None:
            loader = self.templates.loader
            assert isinstance(loader, ChoiceLoader)
            loader.loaders = [*loader.loaders, FileSystemLoader(templates)]

    def add(self, page: Page, *routers: APIRouter) -> None:
        """Add routes and their entry in the navigation. Raises ValueError for a path that is taken."""
        if any(other.path == page.path for other in self._pages):
            raise ValueError(f"path: the dashboard has a page at {page.path!r} already")
        for router in routers:
            self.application.include_router(router)
        self._pages.append(page)

    async def close(self) -> None:
        """End the streams, and close what it opened itself."""
        await self.streams.close()
        await self.snapshots.close()
        if self.reading is not None:
            await self.reading.close()


def get_dashboard(request: Request) -> Dashboard:
    """Dependency: the dashboard that this request came to."""
    found = getattr(request.app.state, "dashboard", None)
    if not isinstance(found, Dashboard):
        raise RuntimeError("this application is no dashboard: use create_dashboard or mount_dashboard")
    return found


DashboardOf = Annotated[Dashboard, Depends(get_dashboard)]
"""A parameter of this type is the dashboard."""
