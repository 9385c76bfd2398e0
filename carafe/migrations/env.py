"""The script that alembic runs for each upgrade. `carafe.store.database` opens the connection and holds the migrations'
lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table_schema="carafe",
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
