"""The dashboard's cookies: the session, and what the last action has to say. Signed, HttpOnly, Secure over https."""

from typing import TYPE_CHECKING

from fastapi import Request, Response

from carafe.web.dashboard.origins import is_secure
from carafe.web.dashboard.sessions import SESSION_LIFETIME, Keys, Session

if TYPE_CHECKING:
    from carafe.web.dashboard.dashboard import Dashboard

SESSION = "carafe_dashboard"
SAID = "carafe_said"

SAID_FOR = 60
"""Seconds in which the next page has to be opened."""


def _dashboard(request: Request) -> "Dashboard":
    found: Dashboard = request.app.state.dashboard
    return found


def _name(request: Request, name: str) -> str:
    # The prefixes make browsers refuse the same name from another port over http, and the first from a sibling domain; that
    # one a cookie of a path cannot have.
    if not is_secure(request):
        return name
    return f"__Host-{name}" if _path(request) == "/" else f"__Secure-{name}"


def _path(request: Request) -> str:
    """The dashboard's own path, so that neighbours on the same host do not get its cookies."""
    return str(request.scope.get("root_path", "")).rstrip("/") or "/"


def session_of(request: Request) -> Session:
    """The browser's session; a new one, which `keep_session` sends along, when it has none."""
    found = getattr(request.state, "carafe_session", None)
    if isinstance(found, Session):
        return found
    cookie = request.cookies.get(_name(request, SESSION), "")
    session = Session.read(cookie, _dashboard(request).keys, _dashboard(request).clock) if cookie else None
    if session is None:
        session = begin(request)
        # A form that another site sends comes without the cookie: its answer must not replace the session that is there.
        request.state.carafe_session_new = request.method in ("GET", "HEAD")
    request.state.carafe_session = session
    return session


def look_again(request: Request) -> None:
    """Of a request that lasts: its session may have ended since it began."""
    request.state.carafe_session = None


def begin(request: Request, name: str = "", fingerprint: str = "") -> Session:
    """Give the browser a new session, with the next `keep_session`."""
    session = Session.begin(name, fingerprint, _dashboard(request).clock)
    request.state.carafe_session = session
    request.state.carafe_session_new = True
    return session


def keep_session(request: Request, response: Response) -> None:
    """Send the session along, when it is new."""
    if getattr(request.state, "carafe_session_new", False):
        _set(request, response, SESSION, session_of(request).signed(_dashboard(request).keys), SESSION_LIFETIME)


def leave_said(request: Request, response: Response, text: str) -> None:
    """Let the next page say something once."""
    signed = _dashboard(request).keys.sign(_said(request), text[:1_000])
    _set(request, response, SAID, signed, SAID_FOR)


def take_said(request: Request) -> str | None:
    """What the action before has to say to this session."""
    cookie = request.cookies.get(_name(request, SAID))
    keys: Keys = _dashboard(request).keys
    return None if cookie is None else keys.read(_said(request), cookie)


def forget_said(request: Request, response: Response) -> None:
    """It was said."""
    response.delete_cookie(
        _name(request, SAID), path=_path(request), secure=is_secure(request), httponly=True, samesite="strict"
    )


def _said(request: Request) -> str:
    return f"said {session_of(request).nonce}"


def _set(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(
        _name(request, name),
        value,
        max_age=seconds,
        path=_path(request),
        secure=is_secure(request),
        httponly=True,
        # Lax, so that a link in an alert finds its reader signed in; what only follows our own redirect may be strict.
        samesite="lax" if name == SESSION else "strict",
    )
