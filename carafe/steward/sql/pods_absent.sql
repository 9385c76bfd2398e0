-- Marks the pods of a namespace as gone that are not among those that exist: they disappeared while no process watched.
update carafe.pods
set gone_at = now(), seen_at = now(), ready = false, ended = true, trouble = '', trouble_since = null
where namespace = :namespace and gone_at is null and uid <> all (:present::text[])
