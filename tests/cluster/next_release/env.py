"""Run by alembic for each upgrade; `carafe.store.database` gives the connection and holds the lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="cluster_next_release_version",
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
