"""Passwords as argon2id hashes: making them for DASHBOARD_USERS, and checking one.

Guarantees: checking takes as long for a name that nobody has as for one that somebody has; no more than two are checked at
a time, so that signing in cannot eat a pod's memory.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carafe.web.dashboard.refusals import Refused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from carafe.setting_types import DashboardUser

MAX_PASSWORD = 1_000
"""Characters of a password at most."""

AT_A_TIME = 2

WAITING = 50
"""Sign-ins that wait for their turn at most."""

# OWASP's choice for argon2id with little memory (Password Storage Cheat Sheet): a web pod has 384 MiB.
TIME_COST, MEMORY_COST, PARALLELISM = 2, 19_456, 1


def hash_password(password: str) -> str:
    """The hash under which a password stands in DASHBOARD_USERS (argon2id, PHC string)."""
    return _hasher().hash(password)


def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)


class Passwords:
    """Checks passwords of DASHBOARD_USERS."""

    def __init__(self, users: Sequence["DashboardUser"]) -> None:
        self._users = {user.name: user for user in users}
        self._turn = asyncio.Semaphore(AT_A_TIME)
        self._waiting = 0
        self._nobodys: str | None = None

    async def check(self, name: str, password: str) -> "DashboardUser | None":
        """The user of this name and password, or None. Raises `Refused` 503 when too many sign in at once."""
        if self._waiting >= WAITING:
            raise Refused(503, "Busy", "Too many sign in at once. Try again in a moment.", headers={"Retry-After": "2"})
        user = self._users.get(name)
        self._waiting += 1
        try:
            async with self._turn:
                right = await asyncio.to_thread(self._matches, user, password)
        finally:
            self._waiting -= 1
        return user if right else None

    def _matches(self, user: "DashboardUser | None", password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        if len(password) > MAX_PASSWORD:
            return False
        try:
            # The hash for nobody is made at the first sign-in, of whomever: later it costs both the same.
            nobodys = self._of_nobody()
            matches = _hasher().verify(nobodys if user is None else user.password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return bool(matches) and user is not None

    def _of_nobody(self) -> str:
        """A hash that costs what the dearest of the users' costs, of a password that nobody knows."""
        if self._nobodys is None:
            import secrets

            from argon2 import PasswordHasher, extract_parameters

            costs = [extract_parameters(user.password_hash) for user in self._users.values()]
            dearest = max(costs, key=lambda cost: cost.time_cost * cost.memory_cost)
            self._nobodys = PasswordHasher(
                time_cost=dearest.time_cost, memory_cost=dearest.memory_cost, parallelism=dearest.parallelism
            ).hash(secrets.token_urlsafe())
        return self._nobodys
