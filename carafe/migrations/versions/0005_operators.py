"""Tables and columns for operators: audit, bulk actions, failed logins, job logs, draining a worker; and indexes for pages.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# ruff: noqa: S608  the text is ours alone


def _ensure_partitions(*sides: str) -> str:
    """The SQL of the function `ensure_partitions` of revision 0002, for these tables and sides."""
    listed = ", ".join(f"'{side}'" for side in sides)
    return f"""
    create or replace function carafe.ensure_partitions(days integer) returns integer language plpgsql
        set lock_timeout = '1s' as $$
    declare
        side text;
        day date;
        made integer := 0;
    begin
        perform pg_advisory_xact_lock(hashtext('carafe.ensure_partitions'));
        for day in select d::date from generate_series(
                (now() at time zone 'UTC')::date, (now() at time zone 'UTC')::date + days, interval '1 day') d loop
            foreach side in array array[{listed}] loop
                if to_regclass(format('carafe.%I', side || to_char(day, '_YYYYMMDD'))) is null then
                    begin
                        execute format('create table carafe.%I partition of carafe.%I for values from (%L) to (%L)',
                            side || to_char(day, '_YYYYMMDD'), side,
                            day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
                        made := made + 1;
                    exception when check_violation then
                        null;
                    end;
                end if;
            end loop;
        end loop;
        return made;
    end $$
    """


def _drop_partition(tables: str) -> str:
    """The SQL of the function `drop_partition` of revision 0002, for these tables."""
    return f"""
    create or replace function carafe.drop_partition(partition text) returns boolean language plpgsql
        set lock_timeout = '100ms' as $$
    begin
        if partition !~ '^{tables}_(dead|done)_[0-9]{{8}}$' then
            raise exception '% is no day partition of ended jobs or their logs', partition;
        end if;
        execute format('drop table if exists carafe.%I', partition);
        return true;
    exception when lock_not_available then
        return false;
    end $$
    """


STATEMENTS = [
    """
    create table carafe.audit (
        id uuid primary key,
        at timestamptz not null default now(),
        actor text not null,
        via text not null,
        action text not null,
        target text not null,
        reason text,
        details jsonb not null default '{}',
        bulk uuid,
        constraint audit_via check (via in ('dashboard', 'api', 'cli', 'steward'))
    )
    """,
    "create index audit_at on carafe.audit (at, id)",
    # What a person reads: not the thousands of rows, one a job, that a bulk action writes.
    "create index audit_shown on carafe.audit (at, id) where bulk is null",
    "create index audit_target on carafe.audit (target, at, id)",
    # `cursor` is where the next batch begins, `next_at` when the rate allows it; `cutoff` never moves.
    """
    create table carafe.bulk_actions (
        id uuid primary key,
        action text not null,
        filter jsonb not null,
        cutoff timestamptz not null,
        rate real,
        actor text not null,
        via text not null,
        reason text,
        state text not null default 'running',
        matched bigint not null,
        matched_estimated boolean not null default false,
        cursor jsonb,
        done bigint not null default 0,
        skipped bigint not null default 0,
        failed bigint not null default 0,
        last_error text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        next_at timestamptz not null default now(),
        ended_at timestamptz,
        constraint bulk_actions_action check (action in ('retry', 'cancel', 'discard', 'run_now')),
        constraint bulk_actions_state check (state in ('running', 'paused', 'cancelled', 'done')),
        constraint bulk_actions_rate check (rate is null or rate > 0),
        constraint bulk_actions_ended check ((ended_at is not null) = (state in ('cancelled', 'done')))
    )
    """,
    "create index bulk_actions_created on carafe.bulk_actions (created_at, id)",
    "create index bulk_actions_open on carafe.bulk_actions (next_at) where state = 'running'",
    """
    create table carafe.failed_logins (
        name text not null,
        address text not null,
        count integer not null,
        last_at timestamptz not null default now(),
        primary key (name, address)
    )
    """,
    "create index failed_logins_last on carafe.failed_logins (last_at)",
    # What handlers logged, in chunks: one row is what one claim logged between two flushes. Day partitions as of ended jobs,
    # on two sides: `failed` is kept as long as dead jobs, the rest as long as succeeded ones.
    """
    create table carafe.job_logs (
        failed boolean not null,
        written_at timestamptz not null default now(),
        job_id uuid not null,
        fence bigint not null,
        attempt integer not null,
        first integer not null,
        last integer not null,
        times timestamptz[] not null,
        levels text[] not null,
        texts text[] not null
    ) partition by list (failed)
    """,
    "create table carafe.job_logs_dead partition of carafe.job_logs for values in (true) partition by range (written_at)",
    "create table carafe.job_logs_done partition of carafe.job_logs for values in (false) partition by range (written_at)",
    "create table carafe.job_logs_dead_other partition of carafe.job_logs_dead default",
    "create table carafe.job_logs_done_other partition of carafe.job_logs_done default",
    "create index job_logs_job on carafe.job_logs (job_id, fence, first)",
    _ensure_partitions("jobs_dead", "jobs_done", "job_logs_dead", "job_logs_done"),
    _drop_partition("(jobs|job_logs)"),
    "select carafe.ensure_partitions(3)",
    # Dead letters that nobody has resolved, by group and by time: groups, tabs and lists read these alone.
    """create index jobs_dead_unresolved on carafe.jobs_dead (kind, error_fingerprint, ended_at, id)
       where resolved_at is null""",
    "create index jobs_dead_open on carafe.jobs_dead (ended_at, id) where resolved_at is null",
    "create index jobs_dead_error_class on carafe.jobs_dead (error_class, ended_at, id)",
    # Cancelled jobs are rare among those done: an index that costs nothing where a job succeeds.
    "create index jobs_done_cancelled on carafe.jobs_done (ended_at, id) where state = 'cancelled'",
    # Charts and estimates of one kind: the primary key has the time before the kind.
    "create index statistics_kind on carafe.statistics (width, kind, at)",
    # Replicas that the autoscaler's formula asks for (null: no cluster known), and slots in use on live workers.
    "alter table carafe.gauges add column wanted integer",
    "alter table carafe.gauges add column used integer",
    # Last: what every beat needs is locked for a moment only.
    "alter table carafe.workers add column drain_requested_at timestamptz",
]


def upgrade() -> None:
    """Create all that this revision adds."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop what this revision added. `ensure_partitions` makes partitions for jobs alone again."""
    op.execute(_ensure_partitions("jobs_dead", "jobs_done"))
    op.execute(_drop_partition("jobs"))
    op.execute("drop table carafe.audit, carafe.bulk_actions, carafe.failed_logins, carafe.job_logs")
    op.execute("drop index carafe.jobs_dead_unresolved, carafe.jobs_dead_open, carafe.jobs_dead_error_class")
    op.execute("drop index carafe.jobs_done_cancelled, carafe.statistics_kind")
    op.execute("alter table carafe.gauges drop column wanted, drop column used")
    op.execute("alter table carafe.workers drop column drain_requested_at")
