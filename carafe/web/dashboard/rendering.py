"""Making pages: templates with everything escaped, URLs relative to wherever the dashboard is mounted, and what was just
done said on the next page.

Must never: render a value unescaped, or a URL that does not go through `url` or `static`.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Hashable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import escape

from carafe import __version__
from carafe.web.dashboard import cookies
from carafe.web.dashboard.access import token_of, viewer_of
from carafe.web.dashboard.dashboard import get_dashboard
from carafe.web.dashboard.formatting import FILTERS

HERE = Path(__file__).parent
TOKEN_STANDS_HERE = secrets.token_urlsafe(24)
"""What a shared fragment has in the place of a session's token; nobody can guess it, so nobody can put it into a text."""

TEMPLATES = HERE / "templates"
STATIC = HERE / "static"


def render(request: Request, template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page (or a fragment of one) from a template.

    Besides `context` a template has: `viewer` (None on the sign-in and some error pages), `csrf` (the value of a form's
    hidden input `token`), `nav` (the pages: label, path, order and whether it is the `current` one; empty without viewer),
    `root` (the prefix that the dashboard is mounted under), `path` (this page's own, without the prefix), `url(path)`,
    `static(path)`, `snapshot` (None while Postgres is away), `trouble` (what is down or paused, in words, or
    None: postgres, redis, paused), `said` (what the action before has to say, or None), `now` (aware, UTC) and `version`;
    and the filters of `carafe.web.dashboard.formatting`.
    """
    said = cookies.take_said(request)
    response = HTMLResponse(_text(request, template, token_of(request), {"said": said, **context}), status_code)
    cookies.keep_session(request, response)
    if said is not None:
        cookies.forget_said(request, response)
    return response


async def render_shared(
    request: Request, template: str, key: Hashable, seconds: float, context: Callable[[], Awaitable[dict[str, Any]]]
) -> HTMLResponse:
    """A fragment that all viewers with the same `key` (and role, and prefix) get, made anew after `seconds`.

    The template may use of the viewer `operates` alone; the session's token is put in for each.
    """
    viewer = viewer_of(request)

    async def make() -> str:
        return _text(request, template, TOKEN_STANDS_HERE, {"said": None, **await context()})

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
    """What a form's POST ends with: goes to a page of the dashboard (303), which then says `text` once."""
    response = RedirectResponse(url(request, path), 303)
    cookies.keep_session(request, response)
    cookies.leave_said(request, response, text)
    return response


def url(request: Request, path: str) -> str:
    """Where a page of the dashboard is, wherever it is mounted. `path` begins with a slash, and may have a query."""
    return root_of(request) + (path if path.startswith("/") else f"/{path}")


def static(request: Request, path: str) -> str:
    """Where a static file is: its URL changes with the files' content, so that browsers may keep it."""
    return url(request, f"/static/{get_dashboard(request).static_version()}/{path.lstrip('/')}")


def root_of(request: Request) -> str:
    """The prefix that the dashboard is mounted under; empty on a port of its own."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """The page's own path, without the prefix."""
    return request.url.path.removeprefix(root_of(request)) or "/"


def environment(folders: Sequence[Path], *, reload: bool) -> Environment:
    """The templates of the dashboard, then those of an application's pages; `reload` reads changed ones again."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(TEMPLATES), *(FileSystemLoader(folder) for folder in folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=reload,
    )
    made.filters.update(FILTERS)
    return made


class ContentHash:
    """Stands for the content of a folder's files; where they may `change`, they are read again when one has."""

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
