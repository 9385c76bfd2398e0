"""Sessions, kept in signed cookies and not in Redis or Postgres. So any replica can read them, and a loss of data in Redis
or Postgres ends no session.

1. A session holds the user's name and a fingerprint of their password's hash, but not their role. The role comes from the
   settings at every request, and a changed password ends the sessions that were opened with the old one.
2. A browser in which nobody is signed in has a session too, without a name. The sign-in form's token belongs to it.
3. Cookies are signed with the first key of DASHBOARD_SECRET_KEYS, and accepted if any of the keys has signed them.

Must never: put a secret into a session, since a cookie is signed but not encrypted.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, Signer, TimestampSigner, URLSafeTimedSerializer

SESSION_LIFETIME = 12 * 3600
"""Seconds after signing in at which a session ends, even if it is in use."""

SKEW = 300
"""The maximum number of seconds by which the replicas' clocks may differ. A value whose time is further in the future is
refused: either the key has leaked or a clock has jumped."""

Clock = Callable[[], float]

_FORM: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


class Keys:
    """Signs values and checks the signatures. A value that was signed for one purpose is not accepted for another."""

    def __init__(self, secrets_: Sequence[str]) -> None:
        """Signs with the first of `secrets_`, and accepts signatures made with any of them.

        If there are none, uses a random key, which only this process knows.
        """
        # itsdangerous signs with the last.
        self._keys = [*reversed(secrets_)] or [secrets.token_urlsafe(32)]
        self._tokens = Signer(self._keys, salt="carafe dashboard token", **_FORM)

    def sign(self, purpose: str, value: Any, at: int) -> str:
        """Returns `value` as signed JSON with the time `at` (UNIX time in seconds), in characters that a cookie may have."""
        return str(self._serializer(purpose, at).dumps(value))

    def read(self, purpose: str, signed: str, max_age: float, clock: Clock = time.time) -> tuple[Any, int] | None:
        """Returns a signed value, and the UNIX time at which it was signed.

        Returns None if the value was signed for another purpose than `purpose`, with none of the keys, or more than
        `max_age` seconds ago.
        """
        try:
            value, moment = self._serializer(purpose).loads(signed, return_timestamp=True)
        except BadData:
            return None
        at = int(moment.timestamp())
        return (value, at) if -SKEW <= clock() - at < max_age else None

    def token(self, session: "Session") -> str:
        """Returns the token that forms on this session's pages contain."""
        return self._tokens.get_signature(session.bound).decode()

    def owns(self, session: "Session", token: str) -> bool:
        """Whether the token that a form has sent belongs to this session."""
        return self._tokens.verify_signature(session.bound, token)

    def _serializer(self, purpose: str, at: int = 0) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._keys, salt=f"carafe dashboard {purpose}", signer=_At, signer_kwargs={"at": at, **_FORM}
        )


class _At(TimestampSigner):
    """A signer that puts a given time into the signature, rather than the current time of its own clock."""

    def __init__(self, *args: Any, at: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._at = at

    def get_timestamp(self) -> int:
        return self._at


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a browser. `name` is the user who is signed in, or empty. `began` is its start in UNIX seconds."""

    nonce: str
    name: str = ""
    fingerprint: str = ""
    began: int = 0

    @classmethod
    def begin(cls, name: str = "", fingerprint: str = "", clock: Clock = time.time) -> "Session":
        """Returns a new session. Signing in begins a new session too, so that an attacker gains nothing by planting a
        session's cookie in the browser before the sign-in."""
        return cls(secrets.token_urlsafe(16), name, fingerprint, int(clock()))

    @property
    def bound(self) -> str:
        """The text from which tokens of this session's forms are made, so that they are valid for no other session."""
        return f"{self.nonce}:{self.name}"

    def signed(self, keys: Keys) -> str:
        """Returns the value of the session's cookie."""
        return keys.sign("session", [self.nonce, self.name, self.fingerprint], self.began)

    @classmethod
    def read(cls, cookie: str, keys: Keys, clock: Clock = time.time) -> "Session | None":
        """Returns the session in a cookie's value; None when its signature is not valid or the session has ended."""
        found = keys.read("session", cookie, SESSION_LIFETIME, clock)
        if found is None:
            return None
        (nonce, name, fingerprint), began = found
        return cls(nonce, name, fingerprint, began)


def fingerprint(password_hash: str) -> str:
    """Returns a short digest of a password's hash, which a session holds in place of the hash itself."""
    return hashlib.sha256(f"carafe dashboard {password_hash}".encode()).hexdigest()[:16]
