"""The lease says which process holds it, so that another on its host takes over at once when that process is gone.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a lease of before says nothing about its process, and expires as ever."""
    op.execute("alter table carafe.leases add column incarnation text not null default ''")


def downgrade() -> None:
    """Drop it."""
    op.execute("alter table carafe.leases drop column incarnation")
