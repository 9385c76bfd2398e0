-- Pauses a kind: from the commit on no job of it is claimed or hinted at. One that is paused already keeps since when, by
-- whom and why, and is `unchanged`. Two at once wait for each other.
insert into carafe.paused_kinds as p (kind, paused_by, paused_reason)
values (:kind, cast(:by as text), cast(:reason as text))
on conflict (kind) do update set paused_at = p.paused_at
returning kind, paused_at, paused_by, paused_reason, paused_at <> now() as unchanged
