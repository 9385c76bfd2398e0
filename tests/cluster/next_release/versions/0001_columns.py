"""Adds a column to tables that are written all the time, while processes of the previous release are still running.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them: one in the service's table, two in the library's."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table briefings add column if not exists cluster_note text")
    op.execute("alter table carafe.jobs add column if not exists cluster_note text")
    op.execute("alter table carafe.jobs_ended add column if not exists cluster_note text not null default ''")


def downgrade() -> None:
    """Drop them."""
    for table in ("briefings", "carafe.jobs", "carafe.jobs_ended"):
        op.execute(f"alter table {table} drop column cluster_note")
