"""Renders pages from templates. Every value is escaped, and characters that would turn the text around them are shown as
escape sequences. Makes URLs that work wherever the dashboard is mounted, and shows the result of an action on the next page.

Must never: render a value unescaped, or a URL that does not go through `url` or `static`.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Hashable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from carafe import __version__
from carafe.dashboard.dependencies import get_dashboard, token_of, viewer_of
from carafe.dashboard.security import cookies
from carafe.dashboard.view.formatting import FILTERS
from carafe.jobs.actions import RATED_ABOVE
from carafe.plain_text import visible
from carafe.store.audit import LONGEST_REASON
from carafe.store.bulk import FASTEST, SLOWEST
from carafe.store.filter_words import LONGEST

HERE = Path(__file__).parent.parent
TOKEN_STANDS_HERE = secrets.token_urlsafe(24)
"""What a shared fragment contains in the place of a session's token. It is random, so that no other text can contain it."""

BOUNDS = {
    "slowest": f"{SLOWEST:g}",
    "fastest": f"{FASTEST:.0f}",
    "rated_above": f"{RATED_ABOVE:,}",
    "longest_reason": str(LONGEST_REASON),
    "longest_text": str(LONGEST),
}
"""What the input fields of templates allow: the bounds of what reads their values."""

TEMPLATES = HERE / "templates"
STATIC = HERE / "static"


def render(request: Request, template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Returns a page, or a fragment of one, rendered from a template.

    Besides `context`, the template can use:

    - `viewer`: the viewer; None on the sign-in page and on some error pages
    - `csrf`: the value of the hidden input `token` of a form
    - `nav`: the entries of the navigation (label, path, order, and whether the entry is `current`); empty without a viewer
    - `root`: the prefix that the dashboard is mounted under
    - `path`: the page's own path, without the prefix
    - `url(path)` and `static(path)`: the URLs of a page and of a static file
    - `snapshot`: the current state of jobs and workers; None while Postgres is away
    - `trouble`: under each of `postgres`, `redis` and `paused`, a sentence about what is down or paused, or None
    - `flash`: the message about the action that led to this page, or None
    - `now`: the time, with its zone, in UTC
    - `version`: Carafe's version
    - `kind_path(kind)`: the path of a kind's page
    - the filter `exact`, for the value of an input
    - the filters of `carafe.dashboard.view.formatting`, and `BOUNDS` by name
    """
    flash = cookies.take_flash(request)
    response = HTMLResponse(_text(request, template, token_of(request), {"flash": flash, **context}), status_code)
    cookies.keep_session(request, response)
    if flash is not None:
        cookies.forget_flash(request, response)
    return response


async def render_shared(
    request: Request, template: str, key: Hashable, seconds: float, context: Callable[[], Awaitable[dict[str, Any]]]
) -> HTMLResponse:
    """Returns a fragment that is rendered once for all viewers with the same `key`, role and prefix. It is kept for
    `seconds`.

    The template may use no attribute of the viewer but `operates`. Each viewer's own session token is put into their copy.
    """
    viewer = viewer_of(request)

    async def make() -> str:
        return _text(request, template, TOKEN_STANDS_HERE, {"flash": None, **await context()})

    whole = (template, key, viewer is not None and viewer.operates, root_of(request))
    text = await get_dashboard(request).shared.get(whole, seconds, make)
    response = HTMLResponse(text.replace(TOKEN_STANDS_HERE, str(escape(token_of(request)))))
    cookies.keep_session(request, response)
    return response


def _text(request: Request, template: str, csrf: str, context: dict[str, Any]) -> str:
    dashboard = get_dashboard(request)
    path = path_of(request)
    viewer = viewer_of(request)
    return dashboard.templates.get_template(template).render(
        {
            "viewer": viewer,
            "csrf": csrf,
            "nav": [] if viewer is None else [entry.shown(path) for entry in dashboard.nav()],
            "root": root_of(request),
            "path": path,
            "url": lambda target: url(request, target),
            "static": lambda target: static(request, target),
            "snapshot": dashboard.snapshots.latest(),
            "trouble": dashboard.snapshots.trouble(),
            "now": datetime.now(UTC),
            "version": __version__,
            **context,
        }
    )


def after(request: Request, path: str, text: str) -> Response:
    """Returns the answer to a form's POST: a redirect (303) to a page of the dashboard, which shows `text` once."""
    response = RedirectResponse(url(request, path), 303)
    cookies.keep_session(request, response)
    cookies.set_flash(request, response, text)
    return response


def url(request: Request, path: str) -> str:
    """Returns the URL of a page, with the prefix that the dashboard is mounted under. `path` may have a query."""
    return root_of(request) + (path if path.startswith("/") else f"/{path}")


def kind_path(kind: str) -> str:
    """Returns the path of a kind's page."""
    return f"/kinds/{quote(kind, safe='')}"


def static(request: Request, path: str) -> str:
    """Returns the URL of a static file. The URL changes with the content of the files, so that browsers may cache the
    file."""
    return url(request, f"/static/{get_dashboard(request).static_version()}/{path.lstrip('/')}")


def root_of(request: Request) -> str:
    """Returns the prefix that the dashboard is mounted under; empty if it has a port of its own."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """Returns the path of the requested page, without the prefix that the dashboard is mounted under."""
    return request.url.path.removeprefix(root_of(request)) or "/"


def environment(folders: Sequence[Path], *, reload: bool) -> Environment:
    """Returns the Jinja environment, which looks for templates in the dashboard's own folder first and then in `folders`.

    If `reload` is true, a template that has changed on disk is read again.
    """
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(TEMPLATES), *(FileSystemLoader(folder) for folder in folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=reload,
    )
    made.filters.update(FILTERS, exact=escape)
    made.globals.update(BOUNDS, kind_path=kind_path)
    return made


def _shown(value: Any) -> Any:
    """What a template shows of a value. Markup stays: its parts were values of a template before. So the filter `exact`
    keeps the value of an input as it is, since the browser sends it back."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


class ContentHash:
    """A function that returns a hash of the content of all files in a folder.

    If `change` is true, the hash is computed again when a file has changed.
    """

    def __init__(self, folder: Path, *, change: bool) -> None:
        self._folder, self._change = folder, change
        self._seen: object = None
        self._hash = ""

    def __call__(self) -> str:
        if self._hash and not self._change:
            return self._hash
        files = [file for file in sorted(self._folder.rglob("*")) if file.is_file()]
        seen = [(file, stat.st_mtime_ns, stat.st_size) for file in files for stat in [file.stat()]]
        if seen != self._seen:
            digest = hashlib.sha256()
            for file in files:
                digest.update(str(file.relative_to(self._folder)).encode() + b"\0" + file.read_bytes() + b"\0")
            self._seen, self._hash = seen, digest.hexdigest()[:12]
        return self._hash
