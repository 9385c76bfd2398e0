-- Stores pods as they were seen now. The last death of a pod's worker is kept, even when the pod and its status are gone.
-- `trouble_since` is the time since when the pod has not run, even if the reason has changed since then.
insert into carafe.pods as p (uid, namespace, name, node, phase, ready, deleting, ended, restarts, trouble, trouble_since,
    created_at, gone_at, death_reason, death_exit_code, death_signal, death_message, death_container, death_container_id,
    death_started_at, death_finished_at, death_seen_at)
select uid, namespace, name, node, phase, ready, deleting, ended, restarts, trouble, case when trouble <> '' then now() end,
    created_at, case when gone then now() end, death_reason, death_exit_code, death_signal, death_message, death_container,
    death_container_id, death_started_at, death_finished_at, case when death_reason is not null then now() end
from jsonb_to_recordset(:pods::jsonb) as seen (uid text, namespace text, name text, node text, phase text, ready boolean,
    deleting boolean, ended boolean, restarts integer, trouble text, created_at timestamptz, gone boolean,
    death_reason text, death_exit_code integer, death_signal integer, death_message text, death_container text,
    death_container_id text, death_started_at timestamptz, death_finished_at timestamptz)
order by uid
on conflict (uid) do update set
    node = excluded.node, phase = excluded.phase, ready = excluded.ready, deleting = excluded.deleting,
    ended = excluded.ended, restarts = excluded.restarts, trouble = excluded.trouble,
    trouble_since = case when excluded.trouble <> '' then coalesce(p.trouble_since, now()) end,
    seen_at = now(), confirmed_at = now(),
    gone_at = case when excluded.gone_at is not null then coalesce(p.gone_at, now()) end,
    death_reason = coalesce(excluded.death_reason, p.death_reason),
    death_exit_code = case when excluded.death_reason is null then p.death_exit_code else excluded.death_exit_code end,
    death_signal = case when excluded.death_reason is null then p.death_signal else excluded.death_signal end,
    death_message = coalesce(excluded.death_message, p.death_message),
    death_container = coalesce(excluded.death_container, p.death_container),
    death_container_id = coalesce(excluded.death_container_id, p.death_container_id),
    death_started_at = case when excluded.death_reason is null then p.death_started_at else excluded.death_started_at end,
    death_finished_at = case when excluded.death_reason is null then p.death_finished_at else excluded.death_finished_at end,
    death_seen_at = case
        when excluded.death_reason is null then p.death_seen_at
        when p.death_container_id = excluded.death_container_id
            and p.death_finished_at is not distinct from excluded.death_finished_at then p.death_seen_at
        else now() end
