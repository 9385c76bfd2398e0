"""Signing in and out with a name and a password of DASHBOARD_USERS.

Guarantees: the form needs its browser's own token and our Origin, like every unsafe request; who signs in gets a new
session; a wrong name and a wrong password look and take the same; a wrong one makes the next wait (see failed_logins).
Must never: log or repeat a password, or go to another site afterwards.
"""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from carafe.database import AWAY
from carafe.logging import get_logger
from carafe.web.dashboard import cookies
from carafe.web.dashboard.access import viewer_of
from carafe.web.dashboard.dashboard import DashboardOf
from carafe.web.dashboard.failed_logins import network_of
from carafe.web.dashboard.forms import FormOf
from carafe.web.dashboard.origins import address_of
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after, render, url
from carafe.web.dashboard.sessions import fingerprint

log = get_logger(__name__)

router = APIRouter()


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request, dashboard: DashboardOf, next: str = "/") -> Response:  # noqa: A002
    """The sign-in page; whoever is let in already goes on to `next`."""
    target = local(next)
    try:
        request.state.carafe_viewer = await dashboard.access.viewer(request)
    except Refused:
        if not dashboard.access.takes_passwords:
            raise
        return _page(request, target)
    return RedirectResponse(url(request, target), 303)


@router.post("/login", response_class=HTMLResponse)
async def login(request: Request, dashboard: DashboardOf, form: FormOf) -> Response:
    """Check a name and a password; on to the form's `next`, or the page again in words (401, 429, 503)."""
    if not dashboard.access.takes_passwords:
        raise Refused(404, "Not found", "Nobody signs in here with a password.")
    name, password = str(form.get("name", ""))[:200].strip(), str(form.get("password", ""))
    target = local(str(form.get("next", "/")))
    if not name or not password:
        return _page(request, target, name, "Give a name and a password.", 422)
    if "\0" in name:
        return _page(request, target, "", "A name has no such characters.", 422)
    address = address_of(request)
    try:
        async with dashboard.passwords.turn(network_of(address)):
            wait = await dashboard.failed_logins.attempt(name, address)
            user = None if wait else await dashboard.passwords.check(name, password)
        if wait:
            answer = _page(request, target, name, f"Too many tries. Wait {wait:.0f} s, then try again.", 429)
            answer.headers["retry-after"] = f"{wait:.0f}"
            return answer
        if user is None:
            # Without the name: people type their password into that field.
            log.warning("sign-in failed", address=address)
            return _page(request, target, name, "The name or the password is wrong.", 401)
        await dashboard.failed_logins.succeeded(name, address)
    except AWAY:
        text = "Postgres cannot be reached, so nobody can sign in. Whoever is signed in stays so; try again in a moment."
        return _page(request, target, name, text, 503)
    cookies.begin(request, user.name, fingerprint(user.password_hash))
    onwards = RedirectResponse(url(request, target), 303)
    cookies.keep_session(request, onwards)
    return onwards


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session in this browser."""
    cookies.begin(request)
    return after(request, "/login", "You have signed out.")


def sign_in_at(request: Request, path: str) -> str:
    """The sign-in page that goes on to `path`, a page of the dashboard with its query."""
    return url(request, "/login" + ("" if path == "/" else f"?next={quote(path, safe='/')}"))


def local(path: str) -> str:
    """`path` if it is one of the dashboard's own, else its start page."""
    if len(path) > 2_000 or not path.isprintable() or "\\" in path or not path.startswith("/") or path.startswith("//"):
        return "/"
    return "/" if path.startswith(("/login", "/logout")) else path


def _page(request: Request, target: str, name: str = "", fault: str = "", status: int = 200) -> HTMLResponse:
    assert viewer_of(request) is None
    return render(request, "login.html", status, next=target, name=name, fault=fault)
