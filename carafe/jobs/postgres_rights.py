"""What a user of Postgres needs who runs workers and web processes and does not own the tables; docs/deploy.md has the same
lines, and a test runs a worker under them.

The owner is who runs `carafe migrate`. Only the owner can make and drop the days' partitions, so a steward must lead as one.
"""

GRANTS = (
    "grant usage on schema carafe to {user}",
    "grant select, insert, update, delete on all tables in schema carafe to {user}",
    "alter default privileges in schema carafe grant select, insert, update, delete on tables to {user}",
)
"""Statements for the owner, in order; the last is for the tables of later migrations."""


def grants(user: str) -> list[str]:
    """The statements for one user (a plain identifier)."""
    return [grant.format(user=user) for grant in GRANTS]
