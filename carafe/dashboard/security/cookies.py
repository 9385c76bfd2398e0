"""The dashboard's two cookies: the session, and the flash message, which the next page shows once.

Both are signed and HttpOnly, and over https also Secure.
"""

from fastapi import Request, Response

from carafe.dashboard.security.origins import is_secure
from carafe.dashboard.security.sessions import SESSION_LIFETIME, Session
from carafe.dashboard.security.state import secured

SESSION = "carafe_dashboard"
FLASH = "carafe_flash"

FLASH_LIFETIME = 60
"""Seconds for which a flash message is kept. The next page shows it only if it is opened within this time."""


def _name(request: Request, name: str) -> str:
    # The prefixes make browsers refuse the same name from another port over http, and the first from a sibling domain; that
    # one a cookie of a path cannot have.
    if not is_secure(request):
        return name
    return f"__Host-{name}" if _path(request) == "/" else f"__Secure-{name}"


def _path(request: Request) -> str:
    """Returns the path of the cookies: the dashboard's own, so that other applications on the host do not get them."""
    return str(request.scope.get("root_path", "")).rstrip("/") or "/"


def session_of(request: Request) -> Session:
    """Returns the browser's session. If the browser has none, begins a new one, which `keep_session` puts into the
    answer."""
    found = getattr(request.state, "carafe_session", None)
    if isinstance(found, Session):
        return found
    cookie = request.cookies.get(_name(request, SESSION), "")
    session = Session.read(cookie, secured(request).keys, secured(request).clock) if cookie else None
    if session is None:
        session = begin(request)
        # A form that another site sends comes without the cookie: its answer must not replace the session that is there.
        request.state.carafe_session_new = request.method in ("GET", "HEAD")
    request.state.carafe_session = session
    return session


def look_again(request: Request) -> None:
    """Forget the session that was read for this request. The next use reads it again, so that a long request notices when
    the session has ended."""
    request.state.carafe_session = None


def begin(request: Request, name: str = "", fingerprint: str = "") -> Session:
    """Begin and return a new session, which the next call of `keep_session` sends to the browser."""
    session = Session.begin(name, fingerprint, secured(request).clock)
    request.state.carafe_session = session
    request.state.carafe_session_new = True
    return session


def keep_session(request: Request, response: Response) -> None:
    """Put the session's cookie into the answer if the session is new."""
    if getattr(request.state, "carafe_session_new", False):
        _set(request, response, SESSION, session_of(request).signed(secured(request).keys), SESSION_LIFETIME)


def set_flash(request: Request, response: Response, text: str) -> None:
    """Put a flash message into the answer's cookies. The next page shows it once."""
    dashboard = secured(request)
    signed = dashboard.keys.sign(_purpose(request), text[:1_000], int(dashboard.clock()))
    _set(request, response, FLASH, signed, FLASH_LIFETIME)


def take_flash(request: Request) -> str | None:
    """Returns the flash message that the previous action left for this session; None if there is none."""
    cookie = request.cookies.get(_name(request, FLASH))
    if cookie is None:
        return None
    dashboard = secured(request)
    found = dashboard.keys.read(_purpose(request), cookie, FLASH_LIFETIME, dashboard.clock)
    return None if found is None else str(found[0])


def forget_flash(request: Request, response: Response) -> None:
    """Delete the flash message's cookie, so that the message is shown only once."""
    response.delete_cookie(
        _name(request, FLASH), path=_path(request), secure=is_secure(request), httponly=True, samesite="strict"
    )


def _purpose(request: Request) -> str:
    return f"flash {session_of(request).nonce}"


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
