"""Hashes passwords for DASHBOARD_USERS with argon2id, and checks a password against its hash.

Guarantees: a check takes as long for an unknown name as for a user's. At most two passwords are checked at a time, so that
sign-ins cannot use up a pod's memory. Each address has one sign-in checked at a time, so that no address shuts out others.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from carafe.dashboard.security.refusals import Refused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from carafe.settings.types import DashboardUser

MAX_PASSWORD = 1_000
"""The maximum number of characters of a password."""

AT_A_TIME = 2
"""How many passwords are checked at a time."""

WAITING = 500
"""The maximum number of sign-ins that may wait for their turn."""

WAITING_OF_ONE = 10
"""The maximum number of sign-ins of one address that may wait for their turn."""

# OWASP's choice for argon2id with little memory (Password Storage Cheat Sheet): a web pod has 384 MiB.
TIME_COST, MEMORY_COST, PARALLELISM = 2, 19_456, 1


def hash_password(password: str) -> str:
    """Returns the hash of a password for DASHBOARD_USERS (argon2id, as a PHC string)."""
    return _hasher().hash(password)


def _hasher() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_COST, parallelism=PARALLELISM)


class Passwords:
    """Checks the passwords of the users in DASHBOARD_USERS."""

    def __init__(self, users: Sequence["DashboardUser"]) -> None:
        self._users = {user.name: user for user in users}
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._nobodys: str | None = None

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Waits until no other sign-in of this address is inside the block, and then enters it. The sign-in is counted, and
        its password is checked, inside the block.

        Raises `Refused`: 429 when too many sign-ins of this address are waiting, 503 when too many sign-ins of all addresses
        together are waiting.
        """
        if self._waiting[address] >= WAITING_OF_ONE:
            text = "Too many people are signing in at once from your IP address. Try again in a moment."
            raise Refused(429, "Busy", text, headers={"Retry-After": "1"})
        if self._waiting.total() >= WAITING:
            raise Refused(
                503, "Busy", "Too many people are signing in at once. Try again in a moment.", headers={"Retry-After": "2"}
            )
        self._waiting[address] += 1
        try:
            async with self._turns.setdefault(address, asyncio.Lock()):
                yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]

    async def check(self, name: str, password: str) -> "DashboardUser | None":
        """Returns the user who has this name and password, or None."""
        user = self._users.get(name)
        async with self._slots:
            right = await asyncio.to_thread(self._matches, user, password)
        return user if right else None

    def _matches(self, user: "DashboardUser | None", password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        if len(password) > MAX_PASSWORD:
            return False
        try:
            # The dummy hash is made at the first sign-in; after that known and unknown names cost the same.
            nobodys = self._of_nobody()
            matches = _hasher().verify(nobodys if user is None else user.password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
        return bool(matches) and user is not None

    def _of_nobody(self) -> str:
        """Returns the hash against which the password of an unknown name is checked, so that this takes as long as for a
        known name.

        It is the hash of a random password, and as expensive to check as the most expensive of the users' hashes.
        """
        if self._nobodys is None:
            import secrets

            from argon2 import PasswordHasher, extract_parameters

            costs = [extract_parameters(user.password_hash) for user in self._users.values()]
            dearest = max(costs, key=lambda cost: cost.time_cost * cost.memory_cost)
            self._nobodys = PasswordHasher(
                time_cost=dearest.time_cost, memory_cost=dearest.memory_cost, parallelism=dearest.parallelism
            ).hash(secrets.token_urlsafe())
        return self._nobodys
