-- Stores new jobs, all or none. A row whose unique key a live job holds is left out and not returned. A row without `stamp`
-- gets no hint: the job is for later, or its queue or kind is paused. The stamp is `hinted_at` in microseconds since 1970,
-- as a number, since the conversion of a time would cost the caller more than all other columns together.
with given as (
    select * from json_to_recordset(cast(:rows as json)) as g(
        id uuid, kind text, args json, secrets text[], version smallint, trace text, created_by text, {given_options})
),
timed as (
    select given.*, greatest(statement_timestamp(), coalesce(run_at, statement_timestamp()
        + least(greatest(delay, 0), 316224000) * interval '1 second')) as due_at
    from given
)
insert into carafe.jobs (id, kind, state, args, secrets, version, {options}, created_at, due_at, hinted_at, trace, created_by)
select id, kind, case when due_at > statement_timestamp() then 'scheduled' else 'queued' end, cast(args as jsonb), secrets,
    version, {options}, statement_timestamp(), due_at,
    case when due_at > statement_timestamp() or kind = any (array(select kind from carafe.paused_kinds)) then null
        else statement_timestamp() end, trace, created_by
from timed
order by unique_key nulls last, id
on conflict (unique_key) where unique_key is not null do nothing
returning id, state,
    case when queue <> all (array(select name from carafe.queues where paused_at is not null))
        then cast(extract(epoch from hinted_at) * 1000000 as bigint) end as stamp
