"""Operators' actions have one spelling everywhere, and only the code lists them (`carafe.jobs.actions`).

Revision ID: 0006
Revises: 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give the actions in old audit rows the new spelling, and drop the constraint on the actions of bulk actions."""
    op.execute("update carafe.audit set action = 'run_now' where action = 'run now'")
    op.execute("alter table carafe.bulk_actions drop constraint bulk_actions_action")


def downgrade() -> None:
    """Bring spelling and constraint back. Bulk actions that the release before does not know stay, and are not checked."""
    op.execute("""
        alter table carafe.bulk_actions add constraint bulk_actions_action
        check (action in ('retry', 'cancel', 'discard', 'run_now')) not valid
    """)
    op.execute("update carafe.audit set action = 'run now' where action = 'run_now'")
