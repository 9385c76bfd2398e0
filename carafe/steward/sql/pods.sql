-- The pods of workers that should run or are being deleted, oldest first. `current` says whether a process watches the
-- cluster, so that the row is at most seconds old.
select uid, namespace, name, node, phase, ready, deleting, restarts, trouble, trouble_since, created_at, seen_at,
    confirmed_at > now() - interval '30 seconds' as current,
    death_reason, death_exit_code, death_signal, death_message, death_container, death_container_id,
    death_started_at, death_finished_at
from carafe.pods where gone_at is null order by created_at, name
