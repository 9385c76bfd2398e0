"""The parts of the dashboard that its security code uses, as protocols, so that it need not import the dashboard itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from fastapi import Request

if TYPE_CHECKING:
    from carafe.dashboard.security.sessions import Keys
    from carafe.settings.settings import Settings
    from carafe.web.large_bodies import LargeBodies


class Looking(Protocol):
    """An object that finds out who the viewer of a request is."""

    async def viewer(self, request: Request) -> Any:
        """Returns the viewer. Raises `Refused` when nobody may see the dashboard with this request."""
        ...


class Secured(Protocol):
    """The part of the dashboard object that the code for cookies, forms and tokens needs."""

    settings: "Settings"
    access: Looking
    keys: "Keys"
    clock: Callable[[], float]
    bodies: "LargeBodies"


def secured(request: Request) -> Secured:
    """Returns the dashboard that received this request."""
    return cast("Secured", request.app.state.dashboard)
