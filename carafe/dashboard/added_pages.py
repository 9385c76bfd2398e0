"""Pages that an application adds to the dashboard."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI


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
    """Add a page to the dashboard of this application, whichever command serves it: `carafe serve`, `carafe dev` or `carafe
    serve --dashboard`.

    The navigation shows `label` as a link to `path`, which must be one of `router`'s routes. Pages with a lower `order` come
    first in the navigation. `templates` is the folder of the page's templates.
    """
    pages = getattr(app.state, "carafe_pages", ())
    app.state.carafe_pages = (*pages, AddedPage(label, router, path, order, templates))


def pages_of(application: Any) -> Iterable[AddedPage]:
    """Returns the pages that `application`, any ASGI application, has added with `add_page`."""
    found: Iterable[AddedPage] = getattr(getattr(application, "state", None), "carafe_pages", ())
    return found
