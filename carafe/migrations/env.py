"""The script that alembic runs for each package of revisions without an `env.py`: Carafe's own and those of applications.

`carafe.store.revisions` gives it the connection and the name of the version's table, and `carafe.store.database` holds the
migrations' lock.
"""

from typing import Any

from alembic import context


def _is_ours(item: Any, name: str | None, kind: str, reflected: bool, counterpart: Any) -> bool:
    """Leaves tables alone that the metadata does not name: they may be those of another package of the database."""
    return not (kind == "table" and reflected and counterpart is None)


given = context.config.attributes
context.configure(
    connection=given["connection"],
    version_table=given["version_table"],
    version_table_schema=given["version_table_schema"],
    target_metadata=given.get("target_metadata"),
    include_object=_is_ours,
)
with context.begin_transaction():
    context.run_migrations()
