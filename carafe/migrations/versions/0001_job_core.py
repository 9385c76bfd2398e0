"""The core tables: live jobs, ended jobs by outcome and day, failed attempts, statistics, idempotency, workers, queues.

Revision ID: 0001
Revises:
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A claim and an end rewrite the row, so the table stays small and hot: vacuum early, without a pause.
HOT = """with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05)"""

COLUMNS = """
    id uuid not null,
    kind text not null,
    queue text not null,
    state text not null,
    args jsonb not null,
    secrets text[],
    version smallint not null,
    attempt integer not null,
    max_attempts integer not null,
    fence bigint not null,
    snoozes integer not null,
    releases integer not null,
    timeout real not null,
    unique_key text,
    worker uuid,
    created_at timestamptz not null,
    due_at timestamptz not null,
    started_at timestamptz,
    trace text,
    created_by text,
    progress real,
    progress_note text,
    cancel_requested_at timestamptz"""

STATEMENTS = [
    f"""
    create table carafe.jobs ({COLUMNS},
        hinted_at timestamptz,
        deferrals integer not null default 0,
        deadline_at timestamptz,
        suspect boolean not null default false,
        primary key (id),
        constraint jobs_state check (state in ('scheduled', 'queued', 'running', 'retrying')),
        constraint jobs_attempt check (attempt >= 0 and max_attempts >= 1),
        constraint jobs_running check ((state = 'running') = (worker is not null))
    ) {HOT}
    """,
    "alter table carafe.jobs alter column queue set default 'default'",
    *(f"alter table carafe.jobs alter column {c} set default 0" for c in ("attempt", "fence", "snoozes", "releases")),
    "create index jobs_queued on carafe.jobs (queue, hinted_at) where state = 'queued'",
    "create index jobs_due on carafe.jobs (due_at) where state in ('scheduled', 'retrying')",
    "create index jobs_running_on on carafe.jobs (worker) where state = 'running'",
    "create unique index jobs_unique_key on carafe.jobs (unique_key) where unique_key is not null",
    f"""
    create table carafe.jobs_ended ({COLUMNS},
        ended_at timestamptz not null,
        result jsonb,
        error_class text,
        error text,
        error_fingerprint text,
        resolved_at timestamptz,
        resolved_by text,
        resolved_reason text
    ) partition by list (state)
    """,
    "create table carafe.jobs_dead partition of carafe.jobs_ended for values in ('dead') partition by range (ended_at)",
    """create table carafe.jobs_done partition of carafe.jobs_ended for values in ('succeeded', 'cancelled')
       partition by range (ended_at)""",
    # Rows for a day without a partition land here, so that an end never fails for want of one.
    "create table carafe.jobs_dead_other partition of carafe.jobs_dead default",
    "create table carafe.jobs_done_other partition of carafe.jobs_done default",
    "create index jobs_ended_id on carafe.jobs_ended (id)",
    "create index jobs_ended_at on carafe.jobs_ended (ended_at, id)",
    "create index jobs_ended_kind on carafe.jobs_ended (kind, ended_at, id)",
    "create index jobs_dead_fingerprint on carafe.jobs_dead (kind, error_fingerprint, ended_at)",
    """
    create function carafe.ensure_partitions(days integer) returns integer language plpgsql as $$
    declare
        side text;
        day date;
        made integer := 0;
    begin
        perform pg_advisory_xact_lock(hashtext('carafe.ensure_partitions'));
        for day in select d::date from generate_series(
                (now() at time zone 'UTC')::date, (now() at time zone 'UTC')::date + days, interval '1 day') d loop
            foreach side in array array['jobs_dead', 'jobs_done'] loop
                if to_regclass(format('carafe.%I', side || to_char(day, '_YYYYMMDD'))) is null then
                    execute format('create table carafe.%I partition of carafe.%I for values from (%L) to (%L)',
                        side || to_char(day, '_YYYYMMDD'), side,
                        day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
                    made := made + 1;
                end if;
            end loop;
        end loop;
        return made;
    end $$
    """,
    "select carafe.ensure_partitions(3)",
    """
    create table carafe.attempts (
        job_id uuid not null,
        kind text not null,
        attempt integer not null,
        fence bigint not null,
        cause text not null,
        error_class text,
        error text not null,
        traceback text,
        worker uuid,
        worker_name text,
        started_at timestamptz,
        ended_at timestamptz not null default now()
    )
    """,
    "create index attempts_job on carafe.attempts (job_id, attempt)",
    "create index attempts_ended_at on carafe.attempts (ended_at)",
    """
    create table carafe.statistics_deltas (
        at timestamptz not null default now(),
        kind text not null,
        outcome text not null,
        wait_bucket smallint not null,
        run_bucket smallint not null,
        count integer not null,
        wait_seconds double precision not null,
        run_seconds double precision not null
    )
    """,
    "create index statistics_deltas_at on carafe.statistics_deltas (at)",
    """
    create table carafe.idempotency_keys (
        scope text not null,
        key text not null,
        request_hash text not null,
        response jsonb,
        created_at timestamptz not null default now(),
        expires_at timestamptz not null,
        primary key (scope, key)
    )
    """,
    "create index idempotency_keys_expiry on carafe.idempotency_keys (expires_at)",
    """
    create table carafe.workers (
        id uuid primary key,
        name text not null,
        host text not null,
        pid integer not null,
        incarnation text not null,
        version text not null,
        kinds text[] not null,
        concurrency integer not null,
        state text not null,
        started_at timestamptz not null default now(),
        beat_at timestamptz not null default now(),
        stopped_at timestamptz,
        constraint workers_state check (state in ('running', 'draining', 'stopped', 'lost'))
    )
    """,
    """
    create table carafe.queues (
        name text primary key,
        paused_at timestamptz,
        paused_by text,
        paused_reason text
    )
    """,
    "insert into carafe.queues (name) values ('default')",
    """
    create table carafe.leases (
        name text primary key,
        holder uuid not null,
        holder_name text not null,
        term bigint not null,
        acquired_at timestamptz not null,
        expires_at timestamptz not null
    )
    """,
]


def upgrade() -> None:
    """Create all tables and functions of this revision."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything in the schema except alembic's version table."""
    op.execute("drop table carafe.leases, carafe.queues, carafe.workers, carafe.idempotency_keys")
    op.execute("drop table carafe.statistics_deltas, carafe.attempts, carafe.jobs_ended, carafe.jobs")
    op.execute("drop function carafe.ensure_partitions(integer)")
