"""A worker says which version of each kind's arguments it knows, so that a job which waits for a newer release can say so.

Revision ID: 0007
Revises: 0006
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: the versions in the order of the kinds. Workers of the release before leave it empty, which means that
    theirs are not known."""
    op.execute("alter table carafe.workers add column versions integer[] not null default '{}'")


def downgrade() -> None:
    """Drop the column."""
    op.execute("alter table carafe.workers drop column versions")
