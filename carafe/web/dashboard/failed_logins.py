"""Failed sign-ins, counted in Postgres for each name and address, each making the next wait longer: never a lock-out.

Names fall into `BUCKETS`, those that somebody has and those that nobody has alike: so an address has a bounded number of
rows and of attempts, whatever names it makes up, and no wait tells whether a name exists. An address is a network of 64 bits
in IPv6, since whoever has one address there has them all.

An attempt is counted before its password is checked, in one statement, so that many at once gain nothing. One that comes
too early is told how long to wait, and not counted: the wait does not grow by trying. Whoever gets in has their own share of
the count forgotten (each bucket is counted by `SHARES` of its names, too), not what others of the bucket have tried: who has
a password could else guess another's for ever. A day of rest forgets all. An address that others guess from does not make
anybody else wait.

Must never: hold a password, or let a name that nobody has look different from one that somebody has.
"""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from carafe.database import Database

BUCKETS = 64
"""Names that an address can try side by side; two in one bucket wait for each other."""

SHARES = 16
"""Parts of a bucket that are counted by themselves, to be forgotten by themselves."""

FREE = 3
"""Attempts without a wait."""

LONGEST = 30
"""Seconds of the longest wait."""

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
    """The row of an address that a name's attempts are counted in."""
    return f"bucket {sha256(name.encode('utf-8', 'replace')).digest()[0] % BUCKETS}"


def share_of(name: str) -> str:
    """The row of its part of the bucket."""
    return f"{bucket_of(name)}, share {sha256(name.encode('utf-8', 'replace')).digest()[1] % SHARES}"


def network_of(address: str) -> str:
    """What attempts are counted for: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    return str(ip_network(f"{found}/64", strict=False)) if isinstance(found, IPv6Address) else str(found)


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """The counts in one database."""

    database: Database

    async def attempt(self, name: str, address: str) -> float:
        """Count an attempt that is about to be checked; 0, or the seconds to wait before the next (it is not counted then).

        Raises `Unavailable`.
        """
        async with self.database.connection() as connection:
            row = (bucket_of(name), network_of(address))
            if await connection.fetchval(ATTEMPT, *row, share_of(name)) is not None:
                await connection.execute(PRUNE)
                return 0.0
            left: float | None = await connection.fetchval(LEFT, *row)
        return max(left or 0.0, 1.0)

    async def succeeded(self, name: str, address: str) -> None:
        """Forget the share of somebody who got in, and write down that they did. Raises `Unavailable`."""
        from carafe.jobs.audit import Actor, record

        async with self.database.connection() as connection, connection.transaction():
            row = (bucket_of(name), network_of(address))
            await connection.execute(FORGET, *row, share_of(name))
            await connection.execute(EMPTY, *row)
            await record(connection, Actor(name, "dashboard"), "sign in", name, details={"address": address})
