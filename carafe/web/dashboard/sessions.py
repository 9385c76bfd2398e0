"""Sessions that live in a signed cookie: none in Redis or Postgres, so any replica can read them and nothing expires them
early.

1. A session names a person and the fingerprint of their password's hash, never the role: roles come from the settings at
   every request, and a changed password ends the sessions that the old one opened.
2. Whoever is not signed in has a session too, without a name, so that the sign-in form has a token to be bound to.
3. The first key of DASHBOARD_SECRET_KEYS signs, all of them verify.

Must never: hold a secret (a cookie is signed, not encrypted).
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SESSION_LIFETIME = 12 * 3600
"""Seconds from signing in until a session ends, whatever was done meanwhile."""

Clock = Callable[[], float]


class Keys:
    """Signs text for a purpose and reads it back; what was signed for one purpose is worth nothing for another."""

    def __init__(self, secrets_: Sequence[str]) -> None:
        """The first of `secrets_` signs, all verify; without any, one that only this process knows."""
        self._keys = [secret.encode() for secret in secrets_] or [secrets.token_bytes(32)]

    def sign(self, purpose: str, text: str) -> str:
        """`text` with its signature, fit for a cookie."""
        body = _encoded(text.encode())
        return f"{body}.{_mac(self._keys[0], purpose, body)}"

    def read(self, purpose: str, signed: str) -> str | None:
        """The text that was signed for this purpose with one of the keys, or None."""
        body, _, signature = signed.rpartition(".")
        if not body or not signature.isascii():
            return None
        if not any(hmac.compare_digest(_mac(key, purpose, body), signature) for key in self._keys):
            return None
        try:
            return _decoded(body).decode()
        except (ValueError, binascii.Error):
            return None

    def token(self, session: "Session") -> str:
        """What a form of this session carries."""
        return _mac(self._keys[0], "token", f"{session.nonce}:{session.name}")

    def owns(self, session: "Session", token: str) -> bool:
        """Whether a form's token belongs to this session."""
        if not token.isascii():
            return False
        said = f"{session.nonce}:{session.name}"
        return any(hmac.compare_digest(_mac(key, "token", said), token) for key in self._keys)


@dataclass(frozen=True, slots=True)
class Session:
    """A browser, and who signed in with it (`name` empty: nobody). `began` in seconds of this machine's clock."""

    nonce: str
    name: str = ""
    fingerprint: str = ""
    began: int = 0

    @classmethod
    def begin(cls, name: str = "", fingerprint: str = "", clock: Clock = time.time) -> "Session":
        """A new one; signing in begins a new one, so that a cookie planted before is worth nothing after."""
        return cls(secrets.token_urlsafe(16), name, fingerprint, int(clock()))

    def signed(self, keys: Keys) -> str:
        """The cookie's value."""
        return keys.sign("session", json.dumps([self.nonce, self.name, self.fingerprint, self.began]))

    @classmethod
    def read(cls, cookie: str, keys: Keys, clock: Clock = time.time) -> "Session | None":
        """The session of a cookie's value; None when it is not one of ours or has ended."""
        text = keys.read("session", cookie)
        if text is None:
            return None
        nonce, name, fingerprint, began = json.loads(text)
        session = cls(nonce, name, fingerprint, began)
        age = clock() - session.began
        # Replicas' clocks differ a little; a session from the future is one of a key that leaked or a clock that jumped.
        return session if -300 <= age < SESSION_LIFETIME else None


def fingerprint(password_hash: str) -> str:
    """Stands for a password's hash in a session."""
    return hashlib.sha256(f"carafe dashboard {password_hash}".encode()).hexdigest()[:16]


def _mac(key: bytes, purpose: str, text: str) -> str:
    return _encoded(hmac.digest(key, f"carafe dashboard\n{purpose}\n{text}".encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
