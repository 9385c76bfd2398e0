"""Lets a long answer, such as an event stream, learn that its server stops, so that it does not delay the process's end.

`WebServer` puts its `Stopping` object into the scope of every request. A stream gets the object with `stopping_of`,
registers a function with `tell`, and ends when that function is called. Under a server other than `WebServer` there is no
such object.
"""

import time
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection

KEY = "carafe.stopping"


class Stopping:
    """Whether a server stops, and the functions to call when it does. Used on the server's event loop only."""

    def __init__(self) -> None:
        self._begun = False
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next = 0
        self.last_request = 0.0
        """When the last request arrived, in seconds of the monotonic clock."""

    def tell(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called when the server stops, or at once if it is stopping already.

        Returns a function that removes `listener` again.
        """
        if self._begun:
            listener()
        self._next += 1
        number = self._next
        self._listeners[number] = listener

        def forget() -> None:
            self._listeners.pop(number, None)

        return forget

    def begin(self) -> None:
        """Mark the server as stopping, and call all listeners."""
        self._begun = True
        for listener in list(self._listeners.values()):
            listener()

    def marks(self, application: Any) -> Any:
        """Returns `application`, wrapped so that the scope of each request holds this object."""

        def marked(scope: Any, receive: Any, send: Any) -> Any:
            scope[KEY] = self
            self.last_request = time.monotonic()
            return application(scope, receive, send)

        return marked


def stopping_of(request: HTTPConnection) -> Stopping | None:
    """Returns the `Stopping` object of the server that received `request`; None under another server than `WebServer`."""
    found = request.scope.get(KEY)
    return found if isinstance(found, Stopping) else None
