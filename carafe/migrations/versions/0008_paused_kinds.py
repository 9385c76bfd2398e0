"""A kind can be paused alone; and the stack of a running job can be asked for.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = [
    # A row here: the kind is paused. No row, and nobody pays for it.
    """
    create table carafe.paused_kinds (
        kind text primary key,
        paused_at timestamptz not null default now(),
        paused_by text,
        paused_reason text
    )
    """,
    # Queued jobs without a stamp: those of a paused kind, kept out of the way of the repair of hints. Otherwise empty.
    "create index jobs_held on carafe.jobs (kind, id) where state = 'queued' and hinted_at is null",
    "alter table carafe.gauges add column held bigint not null default 0",
    # At most one question for each job. A new question deletes the old ones.
    """
    create table carafe.stacks (
        job_id uuid primary key,
        fence bigint not null,
        worker uuid not null,
        requested_at timestamptz not null default now(),
        answered_at timestamptz,
        lines text[]
    )
    """,
    "create index stacks_requested on carafe.stacks (worker) where answered_at is null",
]


def upgrade() -> None:
    """Create the tables and indexes, and the column for the number of queued jobs whose kind is paused."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them. Jobs of paused kinds get a stamp, by which the steward of the release before finds them."""
    op.execute("update carafe.jobs set hinted_at = now() where state = 'queued' and hinted_at is null")
    op.execute("drop table carafe.stacks, carafe.paused_kinds")
    op.execute("drop index carafe.jobs_held")
    op.execute("alter table carafe.gauges drop column held")
