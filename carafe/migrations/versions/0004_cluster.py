"""A table of the workers' pods, as the cluster reports them: which exist, why others do not run, and how they died.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = [
    # Times of the cluster: created_at, death_started_at, death_finished_at. All others are Postgres's.
    """
    create table carafe.pods (
        uid text primary key,
        namespace text not null,
        name text not null,
        node text not null,
        phase text not null,
        ready boolean not null,
        deleting boolean not null,
        ended boolean not null,
        restarts integer not null,
        trouble text not null,
        trouble_since timestamptz,
        created_at timestamptz,
        seen_at timestamptz not null default now(),
        confirmed_at timestamptz not null default now(),
        gone_at timestamptz,
        death_reason text,
        death_exit_code integer,
        death_signal integer,
        death_message text,
        death_container text,
        death_container_id text,
        death_started_at timestamptz,
        death_finished_at timestamptz,
        death_seen_at timestamptz
    )
    """,
    "create index pods_gone on carafe.pods (gone_at)",
]


def upgrade() -> None:
    """Create the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the table."""
    op.execute("drop table carafe.pods")
