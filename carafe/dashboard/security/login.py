"""Signing in and out with a name and a password of DASHBOARD_USERS.

Guarantees: like every request that changes something, the form needs a token of its browser's session and an Origin header
of this dashboard. A person who signs in gets a new session. A wrong name and a wrong password get the same answer and take
the same time. A failed attempt makes the next one wait (`carafe.dashboard.security.failed_logins`).
Must never: log or repeat a password, or redirect to another site afterwards.
"""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from carafe.dashboard.dependencies import DashboardOf, viewer_of
from carafe.dashboard.security import cookies
from carafe.dashboard.security.failed_logins import network_of
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.origins import address_of
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.security.sessions import fingerprint
from carafe.dashboard.view.rendering import after, render, url
from carafe.store.database import AWAY
from carafe.telemetry.loggers import get_logger

log = get_logger(__name__)

router = APIRouter()


@router.get("/login", response_class=HTMLResponse)
async def login_page(request: Request, dashboard: DashboardOf, next: str = "/") -> Response:  # noqa: A002
    """The sign-in page. A viewer who is signed in already is redirected to `next`."""
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
    """Check a name and a password.

    Redirects to the form's `next` if name and password are right. Otherwise shows the page again with the reason: 401 if
    they are wrong, 422 if one is missing, 429 after too many attempts, 503 if Postgres is away.
    """
    if not dashboard.access.takes_passwords:
        raise Refused(404, "Not found", "This dashboard has no password sign-in.")
    name, password = str(form.get("name", ""))[:200].strip(), str(form.get("password", ""))
    target = local(str(form.get("next", "/")))
    if not name or not password:
        return _page(request, target, name, "Enter a name and a password.", 422)
    if "\0" in name:
        return _page(request, target, "", "The name contains characters that names cannot have.", 422)
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
        text = "Postgres cannot be reached, so nobody can sign in. Existing sessions stay signed in; try again in a moment."
        return _page(request, target, name, text, 503)
    cookies.begin(request, user.name, fingerprint(user.password_hash))
    onwards = RedirectResponse(url(request, target), 303)
    cookies.keep_session(request, onwards)
    return onwards


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Sign out: replace the session in this browser with a new one without a name."""
    cookies.begin(request)
    return after(request, "/login", "You have signed out.")


def sign_in_at(request: Request, path: str) -> str:
    """Returns the URL of a sign-in page that, after the sign-in, redirects to `path`: the path of a page, with its query."""
    return url(request, "/login" + ("" if path == "/" else f"?next={quote(path, safe='/')}"))


def local(path: str) -> str:
    """Returns `path` if it is a path of the dashboard. Otherwise returns the path of the dashboard's start page."""
    if len(path) > 2_000 or not path.isprintable() or "\\" in path or not path.startswith("/") or path.startswith("//"):
        return "/"
    return "/" if path.startswith(("/login", "/logout")) else path


def _page(request: Request, target: str, name: str = "", fault: str = "", status: int = 200) -> HTMLResponse:
    assert viewer_of(request) is None
    return render(request, "login.html", status, next=target, name=name, fault=fault)
