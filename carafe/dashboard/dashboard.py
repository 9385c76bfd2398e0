"""The object through which the pages use their dashboard's parts. Each mounted dashboard has one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter

from carafe.dashboard.live.single_flight import Shared
from carafe.web.large_bodies import LargeBodies

if TYPE_CHECKING:
    from fastapi import FastAPI
    from jinja2 import Environment

    from carafe import Client
    from carafe.dashboard.live.snapshots import Snapshots
    from carafe.dashboard.live.streams import Streams
    from carafe.dashboard.security.access import Access
    from carafe.dashboard.security.failed_logins import FailedLogins
    from carafe.dashboard.security.passwords import Passwords
    from carafe.dashboard.security.sessions import Keys
    from carafe.readmodel.model import ReadModel
    from carafe.settings.settings import Settings
    from carafe.store.database import Database


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation. Entries with a lower `order` come first."""

    label: str
    path: str
    order: int = 100

    def shown(self, path: str) -> "ShownPage":
        """Returns this entry as the navigation shows it on the page at `path`."""
        inside = path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))
        return ShownPage(self.label, self.path, self.order, inside)


@dataclass(frozen=True, slots=True)
class ShownPage:
    """An entry of the navigation on a page. `current` says whether the page shown is this entry's page or one below it."""

    label: str
    path: str
    order: int
    current: bool


@dataclass
class Dashboard:
    """What the dashboard's pages use. They read with `model` and act with `client`; the other fields are for internal use.

    `create_dashboard` and `mount_dashboard` make it. A route gets it by a parameter of the type `DashboardOf`.
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
        """Add a page of an application, or several: `router` may have more routes below `path`.

        `templates` is the folder of the page's templates, which may extend "base.html". Raises ValueError for a path that is
        malformed or that another page has.
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
        """Add the routes of a page, and its entry in the navigation. Raises ValueError when another page has its path."""
        if any(other.path == page.path for other in self._pages):
            raise ValueError(f"path: the dashboard has a page at {page.path!r} already")
        for router in routers:
            self.application.include_router(router)
        self._pages.append(page)

    async def close(self) -> None:
        """End the live streams, and close the connection pool that the dashboard has opened for reading."""
        await self.streams.close()
        await self.snapshots.close()
        if self.reading is not None:
            await self.reading.close()
