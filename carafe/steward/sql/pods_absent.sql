-- Pods of a namespace that are not among those present are gone, while nobody looked.
update carafe.pods
set gone_at = now(), seen_at = now(), ready = false, ended = true, trouble = '', trouble_since = null
where namespace = :namespace and gone_at is null and uid <> all (:present::text[])
