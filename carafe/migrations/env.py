"""Run by alembic for each upgrade; `carafe.database` gives the connection, holds the lock and names the version table."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table_schema="carafe",
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
