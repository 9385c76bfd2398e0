"""Who looks at the dashboard, and what they may do.

In this order: what the application that mounted it says (``authenticate``), the name in DASHBOARD_USER_HEADER from a
proxy of DASHBOARD_PROXY_NETWORKS, the session of somebody in DASHBOARD_USERS, everybody where DASHBOARD_OPEN says so.
Else nobody.

Guarantees: the role is looked up at every request; an unsafe request needs an Origin of ours and its session's token
whichever page or application's page it is for; what may be done to jobs needs the role *operate*.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from carafe.web.dashboard import cookies
from carafe.web.dashboard.dashboard import get_dashboard
from carafe.web.dashboard.forms import place_of, read_form
from carafe.web.dashboard.origins import from_proxy, host_of, is_ours, is_secure, origin_matches
from carafe.web.dashboard.refusals import Refused, SignInNeeded
from carafe.web.dashboard.sessions import fingerprint
from carafe.web.origins import LOOPBACK, cannot_be_rebound, from_another_site, is_loopback, name_of, within

if TYPE_CHECKING:
    from carafe.jobs.audit import Actor
    from carafe.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `operates`: may act. `sees_args`: arguments and results are shown (DASHBOARD_ARGS decides, whatever an
    application's ``authenticate`` says). `can_sign_out`: signed in with a password here."""

    name: str
    operates: bool = False
    sees_args: bool = False
    can_sign_out: bool = False

    @property
    def actor(self) -> "Actor":
        """As whom what they do is written down."""
        from carafe.jobs.audit import Actor

        return Actor(self.name, "dashboard")


Authenticate = Callable[[Request], "Viewer | Awaitable[Viewer | None] | None"]
"""An application's own answer to who looks: None is nobody. It may also raise `Refused`, with headers for a redirect."""


class Access:
    """Decides who looks."""

    def __init__(self, settings: "Settings", authenticate: Authenticate | None = None) -> None:
        self._settings = settings
        self._authenticate = authenticate
        self._users = {user.name: user for user in settings.dashboard_users}
        self._operators = frozenset(settings.dashboard_operators)

    @property
    def takes_passwords(self) -> bool:
        """Whether people sign in here."""
        return self._authenticate is None and bool(self._users)

    async def viewer(self, request: Request) -> Viewer:
        """Who makes this request. Raises `SignInNeeded`, or `Refused` where signing in here is no way in.

        `Refused`, too, for what a page of another site asks for: it may not open streams, nor have pages made, with what
        lets its reader in.
        """
        if from_another_site(request, ours=lambda origin: is_ours(request, origin)):
            raise Refused(
                403, "Not from another site", "A page of another site asked for this. Open it from here, or by a link."
            )
        found = await self._found(request)
        sees = {"view": True, "operate": found.operates, "never": False}[self._settings.dashboard_args]
        return replace(found, sees_args=sees)

    async def _found(self, request: Request) -> Viewer:
        if self._authenticate is not None:
            answer = self._authenticate(request)
            viewer = await answer if inspect.isawaitable(answer) else answer
            if viewer is None:
                raise Refused(401, "Not signed in", "Sign in to the application that this dashboard is a part of.")
            return replace(viewer, can_sign_out=False)
        header = self._settings.dashboard_user_header
        if header and from_proxy(request):
            name = request.headers.get(header, "").strip()
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
                "Come through the proxy",
                f"This dashboard is reached through a proxy that sends {header}; this request did not come from one of "
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
                    "Not under this name",
                    f"Anybody could have pointed the name {name} at this dashboard, to use it through your browser. "
                    "If it is yours, list it in DASHBOARD_HOSTS; or use the dashboard's address.",
                )
            case "localhost" if is_loopback(host_of(request)) and (settings.dashboard_open or _is_here(request)):
                return Viewer("anybody", operates=True)
            case "localhost":
                raise Refused(
                    403,
                    "Only as localhost",
                    "This dashboard asks nobody to sign in, so it answers only this machine, as localhost or 127.0.0.1. Set "
                    "DASHBOARD_USERS (`carafe dashboard hash-password NAME ROLE` makes an entry), or "
                    "DASHBOARD_OPEN=everybody to let in whoever reaches it.",
                )
        raise Refused(
            403,
            "Closed",
            "Nobody may use this dashboard yet. Set DASHBOARD_USERS (`carafe dashboard hash-password NAME ROLE` makes an "
            "entry) or DASHBOARD_USER_HEADER; or DASHBOARD_OPEN=localhost where only this machine reaches the port.",
        )

    def _is_ours(self, request: Request) -> bool:
        """Whether the Host is ours as far as can be known. One that came by https has shown its certificate."""
        host = host_of(request)
        listed = {name.strip().lower().rstrip(".") for name in self._settings.dashboard_hosts}
        return name_of(host) in listed or cannot_be_rebound(host) or is_secure(request)


def _is_here(request: Request) -> bool:
    """Whether the peer is this machine: a Host proves nothing where nobody said that others cannot reach the port."""
    return request.client is not None and within(request.client.host, LOOPBACK)


def viewer_of(request: Request) -> Viewer | None:
    """Who looks, once a dependency has found out."""
    found = getattr(request.state, "carafe_viewer", None)
    return found if isinstance(found, Viewer) else None


def token_of(request: Request) -> str:
    """What the forms of this page carry."""
    return get_dashboard(request).keys.token(cookies.session_of(request))


async def check_unsafe(request: Request) -> AsyncIterator[None]:
    """Dependency of every route: an unsafe request comes from a page of ours, and from this session's. Raises `Refused` 403.

    Its form has its place for as long as the request goes on.
    """
    if request.method in SAFE_METHODS:
        yield
        return
    async with place_of(request):
        await _check_unsafe(request)
        yield


async def _check_unsafe(request: Request) -> None:
    if not origin_matches(request):
        raise Refused(
            403,
            "Not from here",
            "This request was not made by a page of this dashboard (its Origin is another one, or none), so nothing was "
            "done. Behind a proxy that changes Host or https, list it in DASHBOARD_PROXY_NETWORKS.",
        )
    token = request.headers.get("x-carafe-token") or str((await read_form(request)).get("token", ""))
    if not get_dashboard(request).keys.owns(cookies.session_of(request), token):
        raise Refused(
            403,
            "This page is out of date",
            "It was made for a session that has ended since, so nothing was done. Reload it and try again.",
        )


async def get_viewer(request: Request) -> Viewer:
    """Dependency: who looks. A page goes to the sign-in page, a fragment (X-Fragment) is answered 401."""
    viewer = await get_dashboard(request).access.viewer(request)
    request.state.carafe_viewer = viewer
    await get_dashboard(request).snapshots.fresh()
    return viewer


async def get_operator(request: Request, viewer: Annotated[Viewer, Depends(get_viewer)]) -> Viewer:
    """Dependency: who looks, and may act. Raises `Refused` 403 for those who may only look."""
    if not viewer.operates:
        raise Refused(
            403,
            "You may only look",
            f"{viewer.name} has the role view; this needs operate. Nothing was done.",
        )
    return viewer


ViewerOf = Annotated[Viewer, Depends(get_viewer)]
"""A parameter of this type lets in whoever may look."""

OperatorOf = Annotated[Viewer, Depends(get_operator)]
"""A parameter of this type lets in whoever may act."""
