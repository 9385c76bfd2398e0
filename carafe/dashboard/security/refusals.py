"""Errors that refuse a request of the dashboard. Their texts are shown to the viewer."""

from collections.abc import Mapping


class Refused(Exception):
    """A page, fragment or action is refused. `status` is the HTTP status, `title` says why, `text` says what to do."""

    def __init__(self, status: int, title: str, text: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.title, self.text = status, title, text
        self.headers = dict(headers or {})


class SignInNeeded(Refused):
    """Nobody is signed in, or the session has ended. A page redirects to the sign-in page; a fragment is answered 401."""

    def __init__(self) -> None:
        super().__init__(401, "Sign in", "You are not signed in, or your session has ended: sign in again.")
