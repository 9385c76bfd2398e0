"""Alembic runs this file for each upgrade. `carafe.store.database` provides the connection and holds the lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    # A name of its own, so that an application that shares the database keeps its `alembic_version`.
    version_table="briefings_version",
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
