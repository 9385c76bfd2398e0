"""FastAPI dependencies for the dashboard's routes: the dashboard object, the viewer, and the operator."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.security import cookies
from carafe.dashboard.security.access import Viewer, check_origin_and_token
from carafe.dashboard.security.forms import place_of
from carafe.dashboard.security.refusals import Refused

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def get_dashboard(request: Request) -> Dashboard:
    """Dependency: the `Dashboard` object of the application that received this request.

    Raises RuntimeError when that application is not a dashboard.
    """
    found = getattr(request.app.state, "dashboard", None)
    if not isinstance(found, Dashboard):
        raise RuntimeError("this application is not a dashboard: use create_dashboard or mount_dashboard")
    return found


DashboardOf = Annotated[Dashboard, Depends(get_dashboard)]
"""A parameter of this type is the `Dashboard` object."""


def viewer_of(request: Request) -> Viewer | None:
    """Returns the viewer of this request; None until a dependency has determined the viewer."""
    found = getattr(request.state, "carafe_viewer", None)
    return found if isinstance(found, Viewer) else None


def token_of(request: Request) -> str:
    """Returns the token that the forms of this page must contain. It proves that a form came from this session's page."""
    return get_dashboard(request).keys.token(cookies.session_of(request))


async def check_unsafe(request: Request) -> AsyncIterator[None]:
    """Dependency of every route: checks that a request that may change something comes from a page of this session.

    Raises `Refused` 403 for a request that does not. A large form keeps its share of the memory limit until the request ends
    (`carafe.web.large_bodies`).
    """
    if request.method in SAFE_METHODS:
        yield
        return
    async with place_of(request):
        await check_origin_and_token(request)
        yield


async def get_viewer(request: Request) -> Viewer:
    """Dependency: the viewer of this request.

    If nobody is signed in, a page redirects to the sign-in page, and a fragment (header X-Fragment) is answered 401.
    """
    viewer = await get_dashboard(request).access.viewer(request)
    request.state.carafe_viewer = viewer
    await get_dashboard(request).snapshots.fresh()
    return viewer


async def get_operator(request: Request, viewer: Annotated[Viewer, Depends(get_viewer)]) -> Viewer:
    """Dependency: the viewer, who must be an operator. Raises `Refused` 403 for a viewer who may only look."""
    if not viewer.operates:
        raise Refused(
            403,
            "You may only look",
            f"{viewer.name} has the role view; this action needs the role operate. Nothing was done.",
        )
    return viewer


ViewerOf = Annotated[Viewer, Depends(get_viewer)]
"""A parameter of this type lets in viewers and operators."""


OperatorOf = Annotated[Viewer, Depends(get_operator)]
"""A parameter of this type lets in operators."""
