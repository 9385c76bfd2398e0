"""Passwords as argon2id hashes: making them for DASHBOARD_USERS, and checking one.

Guarantees: checking takes as long for a name that nobody has as for one that somebody has; no more than two are checked at
a time, so that signing in cannot eat a pod's memory; each address has one turn at a time, so that none keeps out the others.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from carafe.web.dashboard.refusals import Refused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from carafe.setting_types import DashboardUser

MAX_PASSWORD = 1_000
"""Characters of a password at most."""

AT_A_TIME = 2

WAITING = 500
"""Sign-ins that wait for their turn at most."""

WAITING_OF_ONE = 10
"""Those of one address."""

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
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._nobodys: str | None = None

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """The turn of this address, one at a time: within it one sign-in is counted and checked.

        Raises `Refused` 429 when too many of it wait, and 503 when too many wait at all.
        """
        if self._waiting[address] >= WAITING_OF_ONE:
            text = "Too many sign in at once from where you are. Try again in a moment."
            raise Refused(429, "Busy", text, headers={"Retry-After": "1"})
        if self._waiting.total() >= WAITING:
            raise Refused(503, "Busy", "Too many sign in at once. Try again in a moment.", headers={"Retry-After": "2"})
        self._waiting[address] += 1
        try:
            async with self._turns.setdefault(address, asyncio.Lock()):
                yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]

    async def check(self, name: str, password: str) -> "DashboardUser | None":
        """The user of this name and password, or None."""
        user = self._users.get(name)
        async with self._slots:
            right = await asyncio.to_thread(self._matches, user, password)
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
