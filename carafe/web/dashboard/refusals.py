"""Why a request of the dashboard is not answered, in words that a page shows."""

from collections.abc import Mapping


class Refused(Exception):
    """A page, fragment or action is refused: `status` is HTTP's, `title` a few words, `text` what to do about it."""

    def __init__(self, status: int, title: str, text: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.title, self.text = status, title, text
        self.headers = dict(headers or {})


class SignInNeeded(Refused):
    """Nobody is signed in, or no longer: a page goes to the sign-in page, a fragment is answered 401."""

    def __init__(self) -> None:
        super().__init__(401, "Sign in", "You are not signed in, or your session has ended: sign in again.")
