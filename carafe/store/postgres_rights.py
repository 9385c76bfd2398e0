"""The rights in Postgres that workers and web processes need when their user does not own the tables. docs/deploy.md has the
same SQL statements, and a test runs a worker with these rights.

The owner of the tables is the user who ran `carafe migrate`. Only the owner can create and drop the daily partitions, so the
leading steward must connect as the owner.
"""

GRANTS = (
    "grant usage on schema carafe to {user}",
    "grant select, insert, update, delete on all tables in schema carafe to {user}",
    "alter default privileges in schema carafe grant select, insert, update, delete on tables to {user}",
)
"""The statements that the owner runs, in order. The last one is for the tables of later migrations."""


def grants(user: str) -> list[str]:
    """The SQL statements that give `user` these rights. `user` must be a plain identifier, since it is not quoted."""
    return [grant.format(user=user) for grant in GRANTS]
