"""For the steward's upkeep: a function that drops daily partitions, gauges over time, and folded statistics. A day whose
rows lie in the default partition no longer keeps later days from getting partitions of their own.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = [
    # A day whose rows have already gone to the default partition can have none of its own: it must not keep the days after
    # it from having theirs. Nobody waits for long behind a partition that is made.
    """
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
            foreach side in array array['jobs_dead', 'jobs_done'] loop
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
    """,
    # Dropping a partition locks its parent: whoever ends a job waits behind us, so we wait for a tenth of a second at most.
    # (Detaching it concurrently first would not lock; Postgres cannot do that where there is a default partition.)
    """
    create function carafe.drop_partition(partition text) returns boolean language plpgsql
        set lock_timeout = '100ms' as $$
    begin
        if partition !~ '^jobs_(dead|done)_[0-9]{8}$' then
            raise exception '% is no day partition of ended jobs', partition;
        end if;
        execute format('drop table if exists carafe.%I', partition);
        return true;
    exception when lock_not_available then
        return false;
    end $$
    """,
    """
    create table carafe.gauges (
        at timestamptz not null default now(),
        queue text not null,
        queued bigint not null,
        running bigint not null,
        scheduled bigint not null,
        retrying bigint not null,
        dead bigint not null,
        oldest_wait double precision not null,
        paused boolean not null,
        workers integer not null,
        slots integer not null,
        primary key (at, queue)
    )
    """,
    # `width` in seconds; kind '' is all kinds; the histograms' bounds are those of carafe.jobs.statistics.
    """
    create table carafe.statistics (
        width integer not null,
        at timestamptz not null,
        kind text not null,
        outcome text not null,
        count bigint not null,
        wait_seconds double precision not null,
        run_seconds double precision not null,
        waits bigint[] not null,
        runs bigint[] not null,
        primary key (width, at, kind, outcome)
    )
    """,
]


def upgrade() -> None:
    """Create all tables and functions of this revision."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop what this revision added. The better `ensure_partitions` stays."""
    op.execute("drop table carafe.gauges, carafe.statistics")
    op.execute("drop function carafe.drop_partition(text)")
