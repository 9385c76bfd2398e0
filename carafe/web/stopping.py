"""How a server tells long answers that it stops, so that an open stream does not hold the process up.

`WebServer` puts one of these into every request's scope; whoever streams asks for it with `stopping_of` and ends when told.
Under another server there is none.
"""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection

KEY = "carafe.stopping"


class Stopping:
    """Known once, for good. Used on the server's own loop only."""

    def __init__(self) -> None:
        self._begun = False
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.last_request = 0.0
        """When the last request came, on the monotonic clock."""

    def tell(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when the server stops, at once if it does already. Returns what takes that back."""
        if self._begun:
            listener()
        self._next += 1
        number = self._next
        self._listeners[number] = listener

        def forget() -> None:
            self._listeners.pop(number, None)

        return forget

    def begin(self) -> None:
        """Tell everybody. Harmless the second time."""
        self._begun = True
        for listener in list(self._listeners.values()):
            listener()

    def marks(self, application: Any) -> Any:
        """The application, each of its requests knowing this object."""

        def marked(scope: Any, receive: Any, send: Any) -> Any:
            scope[KEY] = self
            self.last_request = time.monotonic()
            return application(scope, receive, send)

        return marked


def stopping_of(request: HTTPConnection) -> Stopping | None:
    """The server that this request came to; None under one that is not ours."""
    found = request.scope.get(KEY)
    return found if isinstance(found, Stopping) else None
