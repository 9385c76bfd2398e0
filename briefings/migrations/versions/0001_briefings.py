"""The table of briefings.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and its index."""
    op.execute(
        """
        create table briefings (
            id uuid primary key,
            topic text not null,
            status text not null default 'pending',
            content text,
            error text,
            job_id uuid,
            requested_by text not null default '',
            request_key text,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            completed_at timestamptz,
            constraint briefings_status check (status in ('pending', 'processing', 'completed', 'failed')),
            constraint briefings_content check ((status = 'completed') = (content is not null))
        )
        """
    )
    op.execute(
        "create unique index briefings_request_key on briefings (requested_by, request_key) where request_key is not null"
    )


def downgrade() -> None:
    """Drop the table."""
    op.execute("drop table briefings")
