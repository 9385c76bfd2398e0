"""The steward's lease names the process that holds it. If that process is gone, another one on the same host takes over at
once.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. A lease from before names no process, and simply expires."""
    op.execute("alter table carafe.leases add column incarnation text not null default ''")


def downgrade() -> None:
    """Drop the column."""
    op.execute("alter table carafe.leases drop column incarnation")
