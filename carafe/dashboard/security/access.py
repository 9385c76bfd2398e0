"""Decides who views the dashboard, and what they may do. The first of these that applies decides:

1. the function ``authenticate`` of the application that mounts the dashboard;
2. the name in DASHBOARD_USER_HEADER, if the request comes from a proxy of DASHBOARD_PROXY_NETWORKS;
3. the session of a user of DASHBOARD_USERS;
4. DASHBOARD_OPEN, which may let everybody in.

Otherwise nobody is let in.

Guarantees: the role is looked up at every request. On every page, a request that changes something needs an Origin header
of this dashboard and a token of its session. Acting on jobs needs the role *operate*.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastapi import Request

from carafe.dashboard.security import cookies
from carafe.dashboard.security.forms import read_form
from carafe.dashboard.security.origins import from_proxy, host_of, is_ours, is_secure, origin_matches
from carafe.dashboard.security.refusals import Refused, SignInNeeded
from carafe.dashboard.security.sessions import fingerprint
from carafe.dashboard.security.state import secured
from carafe.web.origins import LOOPBACK, cannot_be_rebound, from_another_site, is_loopback, name_of, within

if TYPE_CHECKING:
    from carafe.settings.settings import Settings
    from carafe.store.audit import Actor


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person who uses the dashboard.

    - `operates`: whether they may act, and not only look.
    - `sees_args`: whether jobs' arguments and results are shown to them. Only DASHBOARD_ARGS decides this; a value that an
      application's ``authenticate`` sets is ignored.
    - `can_sign_out`: whether they have signed in with a password in this dashboard.
    """

    name: str
    operates: bool = False
    sees_args: bool = False
    can_sign_out: bool = False

    @property
    def actor(self) -> "Actor":
        """The name under which the audit records this viewer."""
        from carafe.store.audit import Actor

        return Actor(self.name, "dashboard")


Authenticate = Callable[[Request], "Viewer | Awaitable[Viewer | None] | None"]
"""An application's function that returns the viewer of a request, or None for nobody. It may also raise `Refused`, for
example with headers that redirect to a sign-in page."""


class Access:
    """Finds out who the viewer of a request is, and what they may do."""

    def __init__(self, settings: "Settings", authenticate: Authenticate | None = None) -> None:
        self._settings = settings
        self._authenticate = authenticate
        self._users = {user.name: user for user in settings.dashboard_users}
        self._operators = frozenset(settings.dashboard_operators)

    @property
    def takes_passwords(self) -> bool:
        """Whether people sign in to this dashboard with a password."""
        return self._authenticate is None and bool(self._users)

    async def viewer(self, request: Request) -> Viewer:
        """Returns the viewer who makes this request.

        Raises `SignInNeeded` when nobody is signed in, and `Refused` when nobody is let in and signing in is not possible.

        Also raises `Refused` when a page of another site makes the request: such a page must not load pages or open streams
        with its reader's rights.
        """
        if from_another_site(request, ours=lambda origin: is_ours(request, origin)):
            raise Refused(
                403,
                "Request from another site",
                "A page of another site made this request. Open this page from the dashboard, or by a link.",
            )
        found = await self._found(request)
        sees = {"view": True, "operate": found.operates, "never": False}[self._settings.dashboard_args]
        return replace(found, sees_args=sees)

    async def _found(self, request: Request) -> Viewer:
        if self._authenticate is not None:
            answer = self._authenticate(request)
            viewer = await answer if inspect.isawaitable(answer) else answer
            if viewer is None:
                raise Refused(401, "Not signed in", "Sign in to the application that this dashboard is part of.")
            return replace(viewer, can_sign_out=False)
        header = self._settings.dashboard_user_header
        if header and from_proxy(request):
            names = request.headers.getlist(header)
            if len(names) > 1:
                raise Refused(
                    403,
                    "Two names",
                    f"{header} came {len(names)} times, so one may come from the browser itself: the proxy must replace "
                    "this header when a request has it already.",
                )
            name = names[0].strip() if names else ""
            if name:
                return Viewer(name[:200], operates=name in self._operators or "*" in self._operators)
        if self._users:
            session = cookies.session_of(request)
            user = self._users.get(session.name)
            if user is not None and session.fingerprint == fingerprint(user.password_hash):
                return Viewer(user.name, operates=user.role == "operate", can_sign_out=True)
            raise SignInNeeded
        if header:
            raise Refused(
                403,
                "Use the proxy",
                f"This dashboard is reached through a proxy that sends {header}; this request came from outside "
                "DASHBOARD_PROXY_NETWORKS, or without a name.",
            )
        return self._open(request)

    def _open(self, request: Request) -> Viewer:
        settings = self._settings
        match settings.dashboard_opens_to:
            case "everybody" if self._is_ours(request):
                return Viewer("anybody", operates=True)
            case "everybody":
                name = name_of(host_of(request))[:300] or "(none)"
                raise Refused(
                    403,
                    "Unknown host name",
                    f"Anybody could have pointed the name {name} at this dashboard, to use it through your browser. "
                    "If the name is yours, list it in DASHBOARD_HOSTS; or use the dashboard's IP address.",
                )
            case "localhost" if is_loopback(host_of(request)) and (settings.dashboard_open or _is_here(request)):
                return Viewer("anybody", operates=True)
            case "localhost":
                raise Refused(
                    403,
                    "Only as localhost",
                    "This dashboard asks nobody to sign in, so it answers only this machine, as localhost or 127.0.0.1. Set "
                    "DASHBOARD_USERS (`carafe dashboard hash-password NAME ROLE` makes an entry), or "
                    "DASHBOARD_OPEN=everybody to let in anyone who reaches it.",
                )
        raise Refused(
            403,
            "Closed",
            "Nobody may use this dashboard yet. Set DASHBOARD_USERS (`carafe dashboard hash-password NAME ROLE` makes an "
            "entry) or DASHBOARD_USER_HEADER; or DASHBOARD_OPEN=localhost where only this machine reaches the port.",
        )

    def _is_ours(self, request: Request) -> bool:
        """Whether the Host header names this dashboard, as far as can be known.

        True for a name of DASHBOARD_HOSTS and for one that cannot be the result of DNS rebinding. Also true over https,
        where the browser has checked the host's certificate.
        """
        host = host_of(request)
        listed = {name.strip().lower().rstrip(".") for name in self._settings.dashboard_hosts}
        return name_of(host) in listed or cannot_be_rebound(host) or is_secure(request)


def _is_here(request: Request) -> bool:
    """Whether the connection comes from this machine. The Host header does not prove it, since any caller can choose it."""
    return request.client is not None and within(request.client.host, LOOPBACK)


async def check_origin_and_token(request: Request) -> None:
    """Check that a request that changes something comes from a page of this dashboard and of this session.

    Raises `Refused` 403 when it does not.
    """
    if not origin_matches(request):
        raise Refused(
            403,
            "Not from this dashboard",
            "This request was not made by a page of this dashboard (its Origin header is missing or names another "
            "site), so nothing was done. If a proxy changes Host or https, list the proxy in DASHBOARD_PROXY_NETWORKS.",
        )
    token = request.headers.get("x-carafe-token") or str((await read_form(request)).get("token", ""))
    if not secured(request).keys.owns(cookies.session_of(request), token):
        raise Refused(
            403,
            "This page is out of date",
            "It belongs to a session that has ended, so nothing was done. Reload it and try again.",
        )
