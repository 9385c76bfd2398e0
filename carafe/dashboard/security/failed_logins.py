"""Counts sign-in attempts in Postgres, for each address and name. Each failed attempt makes the next one wait longer;
nobody is ever locked out.

Names are counted in `BUCKETS` buckets, whether a user of that name exists or not. So, whatever names an address makes up, it
adds a limited number of rows and has a limited number of attempts, and a wait does not tell whether a name exists. For IPv6
an address means its network of 64 bits, since anyone who has one address there can use all of them.

An attempt is counted before its password is checked, in one SQL statement, so that an attacker gains nothing by sending many
attempts at once. An attempt that comes too early is answered with the time to wait, and is not counted, so that early
attempts do not lengthen the wait.

A successful sign-in clears only part of its bucket's count. The names of a bucket are divided into `SHARES` shares, which
are counted too, and only the share of the user who signed in is cleared. Otherwise somebody who knows one user's password
could clear the count again and again while guessing another user's password. After a day without attempts, counts are
forgotten. Attempts from one address make no other address wait.

Must never: hold a password, or reveal whether a user of some name exists.
"""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from carafe.store.database import Database

BUCKETS = 64
"""How many counts an address has. Two names in the same bucket share a count, and so wait for each other."""

SHARES = 16
"""Parts of a bucket that are also counted separately, so that each can be cleared alone."""

FREE = 3
"""How many attempts may be made without a wait."""

LONGEST = 30
"""The maximum number of seconds that the next attempt has to wait."""

# How long the next attempt has to wait after `count` of them: 1, 2, 4 … LONGEST seconds once the free ones are used up.
_WAIT = (
    f"make_interval(secs => case when f.count < {FREE} then 0 else least(2.0 ^ least(f.count - {FREE}, 20), {LONGEST}) end)"
)

_COUNT = "case when f.last_at < now() - interval '1 day' then 1 else f.count + 1 end"

ATTEMPT = f"""
with counted as (
    insert into carafe.failed_logins as f (name, address, count, last_at) values ($1, $2, 1, now())
    on conflict (name, address) do update set count = {_COUNT}, last_at = now() where f.last_at + {_WAIT} <= now()
    returning f.count
), shared as (
    insert into carafe.failed_logins as f (name, address, count, last_at) select $3, $2, 1, now() from counted
    on conflict (name, address) do update set count = {_COUNT}, last_at = now()
)
select count from counted
"""  # noqa: S608  constants of this module

LEFT = f"""
select extract(epoch from f.last_at + {_WAIT} - now())::float8
from carafe.failed_logins f where f.name = $1 and f.address = $2
"""  # noqa: S608  constants of this module

FORGET = """
with shared as (
    delete from carafe.failed_logins where name = $3 and address = $2 returning count
)
update carafe.failed_logins f set count = greatest(f.count - s.count, 0) from shared s where f.name = $1 and f.address = $2
"""

EMPTY = "delete from carafe.failed_logins where name = $1 and address = $2 and count = 0"

PRUNE = "delete from carafe.failed_logins where last_at < now() - interval '1 day'"


def bucket_of(name: str) -> str:
    """Returns the bucket of a name: the key of the row that counts an address's attempts for it."""
    return f"bucket {sha256(name.encode('utf-8', 'replace')).digest()[0] % BUCKETS}"


def share_of(name: str) -> str:
    """Returns the share of a name: the key of the row that counts the attempts for this part of the bucket."""
    return f"{bucket_of(name)}, share {sha256(name.encode('utf-8', 'replace')).digest()[1] % SHARES}"


def network_of(address: str) -> str:
    """Returns the network whose attempts are counted together: an IPv4 address itself, or the /64 of an IPv6 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    return str(ip_network(f"{found}/64", strict=False)) if isinstance(found, IPv6Address) else str(found)


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """The counts of sign-in attempts in one database."""

    database: Database

    async def attempt(self, name: str, address: str) -> float:
        """Count an attempt whose password is about to be checked, and return 0.

        If the attempt comes too early, returns the seconds to wait, and does not count it. Raises `Unavailable` when
        Postgres cannot be used.
        """
        async with self.database.connection() as connection:
            row = (bucket_of(name), network_of(address))
            if await connection.fetchval(ATTEMPT, *row, share_of(name)) is not None:
                await connection.execute(PRUNE)
                return 0.0
            left: float | None = await connection.fetchval(LEFT, *row)
        return max(left or 0.0, 1.0)

    async def succeeded(self, name: str, address: str) -> None:
        """Clear the user's share of the count after a sign-in, and write the sign-in to the audit.

        Raises `Unavailable` when Postgres cannot be used.
        """
        from carafe.store.audit import Actor, record

        async with self.database.connection() as connection, connection.transaction():
            row = (bucket_of(name), network_of(address))
            await connection.execute(FORGET, *row, share_of(name))
            await connection.execute(EMPTY, *row)
            await record(connection, Actor(name, "dashboard"), "sign in", name, details={"address": address})
