"""The witness inside Postgres: triggers on Carafe's tables that write down each change of a job, no matter who makes it.

It sees what the tables alone no longer show (claims over claims, two ends, a hook in another transaction than its end).
`pg_current_xact_id()` tells which changes were one commit.
"""

SCHEMA = """
create schema chaos;

create table chaos.moves (
    seq bigint generated always as identity primary key,
    job_id uuid not null, kind text not null, unique_key text,
    old_state text, new_state text, old_fence bigint, new_fence bigint, old_attempt integer, new_attempt integer,
    old_worker uuid, new_worker uuid, cancel_requested boolean not null,
    at timestamptz not null default clock_timestamp(), xid text not null default pg_current_xact_id()::text
);
create table chaos.ends (
    seq bigint generated always as identity primary key,
    job_id uuid not null, kind text not null, state text not null, fence bigint not null, attempt integer not null,
    at timestamptz not null default clock_timestamp(), xid text not null default pg_current_xact_id()::text
);
create table chaos.hooked (
    seq bigint generated always as identity primary key,
    job_id uuid not null, state text not null, attempt integer not null,
    at timestamptz not null default clock_timestamp(), xid text not null default pg_current_xact_id()::text
);
create table chaos.status (job_id uuid primary key, state text not null, changes integer not null default 1);
create table chaos.effects (job_id uuid not null, token text not null, fence bigint);
create table chaos.orders (tag text primary key, job_id uuid not null);

create table chaos.pauses (
    seq bigint generated always as identity primary key, paused boolean not null,
    at timestamptz not null default clock_timestamp()
);

create table chaos.lost (
    worker uuid not null, at timestamptz not null default clock_timestamp()
);

create function chaos.lost() returns trigger language plpgsql as $$
begin
    insert into chaos.lost (worker) values (new.id);
    return null;
end $$;

create function chaos.paused() returns trigger language plpgsql as $$
begin
    insert into chaos.pauses (paused) values (new.paused_at is not null);
    return null;
end $$;

create function chaos.moved() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into chaos.moves (job_id, kind, unique_key, new_state, new_fence, new_attempt, cancel_requested)
        values (new.id, new.kind, new.unique_key, new.state, new.fence, new.attempt, false);
    elsif tg_op = 'DELETE' then
        insert into chaos.moves (job_id, kind, unique_key, old_state, old_fence, old_attempt, old_worker, cancel_requested)
        values (old.id, old.kind, old.unique_key, old.state, old.fence, old.attempt, old.worker,
            old.cancel_requested_at is not null);
    else
        insert into chaos.moves (job_id, kind, unique_key, old_state, new_state, old_fence, new_fence, old_attempt,
            new_attempt, old_worker, new_worker, cancel_requested)
        values (new.id, new.kind, new.unique_key, old.state, new.state, old.fence, new.fence, old.attempt, new.attempt,
            old.worker, new.worker, old.cancel_requested_at is not null);
    end if;
    return null;
end $$;

create function chaos.ended() returns trigger language plpgsql as $$
begin
    insert into chaos.ends (job_id, kind, state, fence, attempt)
    values (new.id, new.kind, new.state, new.fence, new.attempt);
    return null;
end $$;

create trigger chaos_insert after insert on carafe.jobs for each row execute function chaos.moved();
create trigger chaos_delete after delete on carafe.jobs for each row execute function chaos.moved();
create trigger chaos_update after update on carafe.jobs for each row
    when (old.state is distinct from new.state or old.fence <> new.fence or old.attempt <> new.attempt
        or old.worker is distinct from new.worker)
    execute function chaos.moved();
create trigger chaos_paused after update on carafe.queues for each row
    when ((old.paused_at is null) <> (new.paused_at is null)) execute function chaos.paused();
create trigger chaos_lost after update on carafe.workers for each row
    when (old.state is distinct from new.state and new.state = 'lost') execute function chaos.lost();
create trigger chaos_ended after insert on carafe.jobs_ended for each row execute function chaos.ended();
"""
